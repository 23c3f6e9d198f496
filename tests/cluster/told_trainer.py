"""In place of `python -m pretrain`, a rank that lives and ends as its run directory's `lives` tells, one word a life.

crash: ends with 1. save: leaves a new checkpoint and crashes. leave: waits for the signal to leave. hang: waits, and
does not leave. pause: leaves by itself, with 75. The other words are what status.json says at an end with 0: done, or
stopped, by stop_after.
"""

import json
import signal
import sys
import time
from pathlib import Path


def main(arguments: list[str]) -> int:
    run_dir = Path(dict(argument.split("=", 1) for argument in arguments)["run_dir"])
    life = len(list(run_dir.glob("life-*")))
    (run_dir / f"life-{life}").touch()
    word = (run_dir / "lives").read_text().split()[life]
    if word == "leave":
        number = signal.sigwait([signal.SIGUSR1, signal.SIGTERM])
        write_status(run_dir, state="stopped", reason=signal.Signals(number).name)
        return 0
    if word == "hang":
        time.sleep(600)
    if word == "save":
        (run_dir / "checkpoints").mkdir()
        (run_dir / "checkpoints" / "latest").write_text(f"step-{life:08d}\n")
    if word in ("crash", "save"):
        return 1
    if word == "pause":
        write_status(run_dir, state="stopped", reason="max_minutes=5")
        return 75
    write_status(run_dir, state=word, reason=None if word == "done" else "stop_after=7")
    return 0


def write_status(run_dir: Path, **status: str | None) -> None:
    (run_dir / "status.json").write_text(json.dumps(status))


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])
    sys.exit(main(sys.argv[1:]))
