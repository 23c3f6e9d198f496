"""Last steps of a stage for tests of executors; what runs tasks elsewhere imports them from here."""

import os
import signal
import time
from pathlib import Path

from datatrove.pipeline.base import PipelineStep


class WriteRank(PipelineStep):  # type: ignore[misc]
    """Appends a line to a file named after the rank; fails as told while the file `mend` is absent."""

    def __init__(self, folder: Path, failing: tuple[int, ...] = (), failure: str = "error") -> None:
        super().__init__()
        self.folder = folder
        self.failing = failing
        self.failure = failure

    def is_finished(self, rank: int) -> bool:
        return (self.folder / f"{rank}.out").is_file()

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        if rank in self.failing and not (self.folder / "mend").exists():
            if self.failure == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise {"error": ValueError("file a, line 3: bad; mend it"), "bug": KeyError("oops")}[self.failure]
        with (self.folder / f"{rank}.out").open("a") as file:
            file.write("done\n")


class SleepRank(WriteRank):
    """Marks its start, and sleeps ten minutes unless it is rank 0 or the file `awake` is there."""

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        (self.folder / f"{rank}.started").touch()
        if rank and not (self.folder / "awake").exists():
            time.sleep(600)
        super().run(data, rank, world_size)


class RefuseOuterJob(WriteRank):
    """Fails when a variable of the job that submitted it has come along."""

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        assert "SLURM_MEM_PER_NODE" not in os.environ
        super().run(data, rank, world_size)


def outputs(folder: Path, tasks: int) -> list[str]:
    """What each task has written."""
    return [(folder / f"{rank}.out").read_text() for rank in range(tasks)]
