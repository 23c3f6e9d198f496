"""Lives of one run: the same command on real ranks, killed at a chosen moment, again and again, then left to finish."""

import math
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pretrain.checkpoint.save import list_tags
from pretrain.track.metrics_file import METRICS_FILE
from tests.integration.ranks import start_ranks, wait_for

WORLD_SIZE = 2
COLLECTIVE_TIMEOUT_SECONDS = 20
# Hangs are told from slow machines: far beyond what a start-up and the collective timeout take.
MOMENT_TIMEOUT_SECONDS = 300
SURVIVOR_TIMEOUT_SECONDS = 300
FINISH_TIMEOUT_SECONDS = 900
MAX_MISSES = 3


class Moment(StrEnum):
    """Where in a life a kill falls."""

    START = "before the first step"
    STEP = "in a step"
    SAVE = "inside a save"
    SAVED = "right after a save"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """Which ranks get SIGKILL, and when."""

    moment: Moment
    ranks: tuple[int, ...]


class Life:
    """What a life of a run has done since it began, as its run directory shows it."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._lines_before = self._lines()
        self._tags_before = self._tags()
        self._saves_before = self._saves().keys()

    def steps(self) -> int:
        """Return how many steps were logged. Lines hold times, so that no two lives write the same one."""
        return len(self._lines() - self._lines_before)

    def tags(self) -> int:
        """Return how many saves were completed and not pruned since."""
        return len(self._tags() - self._tags_before)

    def files_of_open_save(self) -> int:
        """Return how many files the save under way has by now; -1 when none is under way."""
        saves = self._saves()
        return max((saves[save] for save in saves.keys() - self._saves_before), default=-1)

    def moment(self) -> Moment:
        """Return where this life stands. What comes right after a save is a step."""
        if self.files_of_open_save() >= 0:
            return Moment.SAVE
        return Moment.STEP if self.steps() else Moment.START

    def _lines(self) -> set[bytes]:
        path = self._run_dir / METRICS_FILE
        return set(path.read_bytes().splitlines()) if path.is_file() else set()

    def _tags(self) -> set[str]:
        return set(list_tags(self._run_dir / "checkpoints"))

    def _saves(self) -> dict[tuple[str, int], int]:
        """Return the number of files per hidden directory, by its name and time of change: left-overs keep theirs."""
        saves = {}
        for hidden in (self._run_dir / "checkpoints").glob(".step-????????.tmp"):
            with suppress(FileNotFoundError):  # renamed meanwhile
                saves[hidden.name, hidden.stat().st_mtime_ns] = len(list(hidden.iterdir()))
        return saves


def finish(arguments: list[str], run_dir: Path) -> float:
    """Run the command to its end; return the seconds until its first step was logged."""
    life, started = Life(run_dir), time.monotonic()
    processes = start_ranks(WORLD_SIZE, arguments)
    while not life.steps() and all(process.poll() is None for process in processes):
        time.sleep(0.01)
    seconds = time.monotonic() - started
    results = wait_for(processes, FINISH_TIMEOUT_SECONDS)
    assert [code for code, _ in results] == [0] * WORLD_SIZE, results
    return seconds


@dataclass(slots=True, kw_only=True)
class KilledRun:
    """A run that is started and killed over and over by its command."""

    arguments: list[str]
    run_dir: Path
    draw: random.Random
    start_seconds: float  # until the first step, in the latest life that came so far

    def kill_repeatedly(self, kills: Iterable[Kill]) -> list[Moment]:
        """Go through one life per kill, and another for each that missed its moment; return what was hit."""
        hits = []
        for kill in kills:
            wanted = Moment.STEP if kill.moment is Moment.SAVED else kill.moment
            for _ in range(1 + MAX_MISSES):
                hits.append(self._live_and_die(kill))
                if hits[-1] is wanted:
                    break
            else:
                raise AssertionError(f"{1 + MAX_MISSES} kills in a row missed their moment ({kill.moment}): {hits}")
        return hits

    def _live_and_die(self, kill: Kill) -> Moment:
        """Start the command, kill as told, return the moment it hit.

        The ranks that were spared must end by themselves, as failures.
        """
        life = Life(self.run_dir)
        processes = start_ranks(WORLD_SIZE, self.arguments)
        try:
            self._wait_for(kill.moment, life, processes)
        except TimeoutError as error:
            for process in processes:
                process.kill()
            raise AssertionError(f"{error}: {wait_for(processes)}") from None
        for rank in kill.ranks:
            processes[rank].kill()
        for rank in kill.ranks:
            processes[rank].wait()
        # The dead rank saw this: a save that it leaves open here was open when it died.
        hit, steps, died = life.moment(), life.steps(), time.monotonic()
        results = wait_for(processes, SURVIVOR_TIMEOUT_SECONDS)
        print(f"killed {kill.ranks} {hit}, {steps} steps logged; all gone {time.monotonic() - died:.1f} s later")
        for rank, (code, output) in enumerate(results):
            if rank in kill.ranks:
                assert code == -signal.SIGKILL, f"rank {rank} was gone before it was killed: {code}\n{output}"
            else:
                assert code != 0, f"rank {rank} calls its run a success though another was killed:\n{output}"
        return hit

    def _wait_for(self, moment: Moment, life: Life, processes: list[subprocess.Popen[str]]) -> None:
        """Return at a random point of that kind. Raises TimeoutError when it does not come or a rank ends before it."""
        started = time.monotonic()

        def until(condition: Callable[[], bool]) -> None:
            while not condition():
                gone = any(process.poll() is not None for process in processes)
                if gone or time.monotonic() - started > MOMENT_TIMEOUT_SECONDS:
                    raise TimeoutError(f"the moment to kill ({moment}) did not come")
                time.sleep(0.001)

        end_of_start = self.start_seconds * self.draw.uniform(0.1, 1) if moment is Moment.START else math.inf
        until(lambda: life.steps() > 0 or time.monotonic() - started > end_of_start)
        if life.steps():
            self.start_seconds = time.monotonic() - started
        if moment is Moment.STEP:
            steps = self.draw.randint(1, 6)
            until(lambda: life.steps() >= steps and life.files_of_open_save() < 0)
            time.sleep(self.draw.uniform(0, 0.1))
        elif moment is Moment.SAVE:
            tags, files = self.draw.randint(0, 1), self.draw.randint(0, WORLD_SIZE)
            until(lambda: life.tags() >= tags and life.files_of_open_save() >= files)
        elif moment is Moment.SAVED:
            tags = self.draw.randint(1, 2)
            until(lambda: life.tags() >= tags)
            time.sleep(self.draw.uniform(0, 0.02))
