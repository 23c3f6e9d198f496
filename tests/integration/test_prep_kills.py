"""The same bytes from every executor, and after kills at any moment, of the whole command or of one worker."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import psutil
import pytest

from data_prep.__main__ import main

NUM_FILES = 30
KEYS = [
    "corpus.format=jsonl",
    "tokenizer.vocab_size=300",
    "dupe_factor=2",
    "held_out_fraction=0.1",
    "sequence.max_seq_length=32",
    "executor.task_bytes=30000",
    "executor.bucket_bytes=60000",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A run that nothing disturbed."""

    corpus: Path
    hashes: dict[str, str]
    seconds: float  # from its plan to its end


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = tmp_path_factory.mktemp("kills")
    corpus = write_corpus(folder / "docs")
    process = start(corpus, folder / "shards")
    assert process.stdout is not None
    process.stdout.readline()
    started = time.monotonic()
    assert process.wait() == 0
    seconds = time.monotonic() - started
    hashes = hashes_of(folder / "shards")
    assert sum(name.endswith(".tar") for name in hashes) > 20
    return Reference(corpus=corpus, hashes=hashes, seconds=seconds)


def write_corpus(folder: Path) -> Path:
    """About 1 MB of text whose words recur, as words do."""
    folder.mkdir()
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 8))) for _ in range(500)]
    for number in range(NUM_FILES):
        documents = [". ".join(" ".join(rng.choices(words, k=8)).capitalize() for _ in range(20)) for _ in range(30)]
        lines = (json.dumps({"text": f"{text}."}) + "\n" for text in documents)
        (folder / f"{number:02d}.jsonl").write_text("".join(lines))
    return folder


def arguments(corpus: Path, output_dir: Path, *more: str) -> list[str]:
    return [f"output_dir={output_dir}", f"corpus.paths=[{corpus}]", *KEYS, *more]


def start(corpus: Path, output_dir: Path, *more: str) -> "subprocess.Popen[str]":
    """Start the command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "data_prep", *arguments(corpus, output_dir, *more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def hashes_of(folder: Path) -> dict[str, str]:
    """The sha256 of every file beside the hidden work folder, hidden temporary files included."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".work" not in path.parts)
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def wait_for_files(folder: Path, pattern: str, number: int, process: "subprocess.Popen[str]") -> None:
    while len(list(folder.glob(pattern))) < number:
        assert process.poll() is None, f"it ended before there were {number} of {pattern}"
        time.sleep(0.01)


@pytest.mark.parametrize("kind", ["local", "slurm", "ray"])
def test_every_executor_writes_the_same_bytes(
    kind: str, reference: Reference, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = request.getfixturevalue("slurm")
    more = ["executor.slurm.tasks_per_job=5"] if kind == "slurm" else []
    if kind == "ray":
        more.append(f"executor.ray.address={request.getfixturevalue('ray_cluster')}")
    monkeypatch.chdir(tmp_path)
    assert main(arguments(reference.corpus, Path("shards"), f"executor.kind={kind}", "executor.workers=2", *more)) == 0
    assert hashes_of(tmp_path / "shards") == reference.hashes
    submissions = (slurm / "calls").read_text().count("\n") if (slurm / "calls").exists() else 0
    assert submissions == (2 if kind == "slurm" else 0)


@pytest.mark.parametrize("num_kills", [5, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.timeout(1800)
def test_kills_at_random_moments_leave_no_trace(num_kills: int, reference: Reference, tmp_path: Path) -> None:
    seed = int(os.environ.get("PREP_KILLS_SEED", random.randrange(10**6)))
    print(f"PREP_KILLS_SEED={seed}")
    rng = random.Random(seed)
    output_dir = tmp_path / "shards"
    while num_kills:
        options = [f"executor.workers={rng.choice([1, 2])}", f"seed={rng.choice([0, 0, 0, 1])}"]
        delay = rng.uniform(0, reference.seconds)
        process = start(reference.corpus, output_dir, *options)
        assert process.stdout is not None
        process.stdout.readline()  # the plan: imports are behind it
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            num_kills -= 1
        errors = process.communicate()[1]
        results = len(list(output_dir.glob(".work/*/completions/*")))
        print(f"{options}, {delay:.2f} s: exit status {process.returncode}, {results} tasks done {errors}")
        assert process.returncode in (0, -signal.SIGKILL), errors
        if (output_dir / "manifest.json").exists():  # a kill may fall after the last write
            if "seed=0" in options:
                assert hashes_of(output_dir) == reference.hashes
            shutil.rmtree(output_dir)
    assert main(arguments(reference.corpus, output_dir)) == 0
    assert hashes_of(output_dir) == reference.hashes


@pytest.mark.parametrize(("stage", "done"), [("scatter-*", 3), ("build", 3)])
def test_a_worker_killed_alone_ends_in_one_message_and_the_same_command_goes_on(
    stage: str, done: int, reference: Reference, tmp_path: Path
) -> None:
    output_dir = tmp_path / "shards"
    process = start(reference.corpus, output_dir, "executor.workers=2")
    wait_for_files(output_dir, f".work/{stage}/completions/*", done, process)
    servers = psutil.Process(process.pid).children()
    workers = [worker for server in servers for worker in server.children()]
    assert workers
    workers[0].send_signal(signal.SIGKILL)
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 1
    assert errors.startswith("data_prep: a worker process was killed from outside")
    assert len(errors.splitlines()) == 1
    (how_far,) = (line for line in output.splitlines() if line.endswith("tasks are done"))
    again = subprocess.run(
        [sys.executable, "-m", "data_prep", *arguments(reference.corpus, output_dir)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert how_far.replace("are done", "are already done") in again.stdout
    assert hashes_of(output_dir) == reference.hashes


@pytest.mark.parametrize("stage", ["scatter-*", "build"])
def test_jobs_of_a_killed_slurm_start_do_not_disturb_the_next_of_another_seed(
    stage: str, reference: Reference, tmp_path: Path, slurm: Path
) -> None:
    output_dir = tmp_path / "shards"
    jobs = ["executor.kind=slurm", "executor.workers=2", "executor.slurm.tasks_per_job=5"]
    process = start(reference.corpus, output_dir, *jobs, "seed=1")
    wait_for_files(output_dir, f".work/{stage}/completions/*", 3, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert list((slurm / "queue").glob("*_*")), "its jobs go on"
    assert main(arguments(reference.corpus, output_dir, "executor.workers=2")) == 0
    assert not list((slurm / "queue").glob("*_*"))
    assert hashes_of(output_dir) == reference.hashes
