"""A stand-in for SLURM's commands that runs the elements of a job array as processes of this machine.

`install` puts sbatch, squeue, scancel and srun into a folder for PATH. The script, its options, the environment and the
processes are real; what is missing is the scheduler, other nodes, limits of time and memory, and accounts.
"""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "squeue", "scancel", "srun")


def install(folder: Path) -> Path:
    """Write the commands into `folder`, with a queue of their own beside them; return `folder`."""
    folder.mkdir(parents=True)
    (folder / "queue").mkdir()
    for command in COMMANDS:
        script = folder / command
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "{__file__}" {command} "{folder}" "$@"\n')
        script.chmod(0o755)
    return folder


class Queue:
    """One file per array element that waits or runs: "NAME STATE PID"."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "queue"

    def new_job(self) -> int:
        with (self.folder / "counter").open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            job = int(file.read() or 0) + 1
            file.truncate(0)
            file.write(str(job))
        return job

    def put(self, job: int, index: int, name: str, state: str, pid: int = 0) -> None:
        temporary = self.folder / f".{job}_{index}"
        temporary.write_text(f"{name} {state} {pid}")
        temporary.replace(self.folder / f"{job}_{index}")

    def elements(self, job: str = "*") -> dict[Path, list[str]]:
        found = {}
        for path in sorted(self.folder.glob(f"{job}_*")):
            if re.fullmatch(r"\d+_\d+", path.name):
                try:
                    found[path] = path.read_text().split()
                except FileNotFoundError:  # it ended meanwhile
                    continue
        return found


def sbatch(folder: Path, arguments: list[str]) -> None:
    script = Path(arguments[-1]).read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", script, re.MULTILINE))
    options |= dict(argument[2:].split("=", 1) for argument in arguments[:-1])
    if options.get("partition") == "nowhere":
        sys.exit("sbatch: error: invalid partition specified: nowhere")
    queue = Queue(folder)
    job = queue.new_job()
    for index in indices(options):
        queue.put(job, index, options["job-name"], "PENDING")
    copy = folder / f"script_{job}"
    copy.write_text(script)
    log = (folder / "controller.log").open("a")
    command = [
        sys.executable,
        "-S",
        "-E",
        __file__,
        "controller",
        str(folder),
        str(job),
        str(copy),
        json.dumps(options),
    ]
    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    with (folder / "calls").open("a") as calls:
        calls.write(json.dumps(options) + "\n")
    print(f"Submitted batch job {job}")


def indices(options: dict[str, str]) -> range:
    first, last = re.match(r"(\d+)-(\d+)", options["array"]).groups()
    return range(int(first), int(last) + 1)


def controller(folder: Path, arguments: list[str]) -> None:
    """Run the elements of one job: as many at a time as `%` in --array allows, after the job it depends on."""
    job, script, options = int(arguments[0]), arguments[1], json.loads(arguments[2])
    queue = Queue(folder)
    after = options.get("dependency", "").rpartition(":")[2]
    while after and queue.elements(after):
        time.sleep(0.02)
    at_once = int(options["array"].partition("%")[2] or 1000)
    running: dict[int, subprocess.Popen[bytes]] = {}
    waiting = list(indices(options))
    while waiting or running:
        for index in [index for index, process in running.items() if process.poll() is not None]:
            (queue.folder / f"{job}_{index}").unlink(missing_ok=True)
            del running[index]
        while waiting and len(running) < at_once:
            index = waiting.pop(0)
            if (queue.folder / f"{job}_{index}").exists():  # else it was cancelled
                running[index] = start(job, index, script, options)
                queue.put(job, index, options["job-name"], "RUNNING", running[index].pid)
        time.sleep(0.02)


def start(job: int, index: int, script: str, options: dict[str, str]) -> "subprocess.Popen[bytes]":
    output = Path(options["output"].replace("%A", str(job)).replace("%a", str(index)))
    exported = dict(pair.split("=", 1) for pair in options["export"].split(",") if "=" in pair)
    of_job = {"SLURM_JOB_ID": str(job), "SLURM_ARRAY_JOB_ID": str(job), "SLURM_ARRAY_TASK_ID": str(index)}
    with output.open("wb") as file:
        return subprocess.Popen(
            ["bash", script], stdout=file, stderr=file, env=os.environ | exported | of_job, start_new_session=True
        )


def squeue(folder: Path, arguments: list[str]) -> None:
    options = dict(argument[2:].partition("=")[::2] for argument in arguments)
    failing = folder / "failing_squeues"  # how many calls are still to fail
    if failing.exists() and (left := int(failing.read_text())):
        failing.write_text(str(left - 1))
        sys.exit("slurm_load_jobs error: Socket timed out on send/recv operation")
    assert options["format"] == "%T"
    for name, state, _ in Queue(folder).elements().values():
        if name == options["name"]:
            print(state)


def scancel(folder: Path, arguments: list[str]) -> None:
    options = dict(argument[2:].partition("=")[::2] for argument in arguments)
    for path, (name, state, pid) in Queue(folder).elements().items():
        if name == options["name"] and state == options.get("state", state):
            if state == "RUNNING":
                os.killpg(int(pid), signal.SIGKILL)
            else:
                path.unlink(missing_ok=True)


def srun(folder: Path, arguments: list[str]) -> None:
    while arguments[0].startswith("-"):
        del arguments[: 2 if arguments[0] == "-n" else 1]
    os.execvp(arguments[0], arguments)


if __name__ == "__main__":
    {"sbatch": sbatch, "squeue": squeue, "scancel": scancel, "srun": srun, "controller": controller}[sys.argv[1]](
        Path(sys.argv[2]), sys.argv[3:]
    )
