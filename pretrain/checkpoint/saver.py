"""Save while the training goes on: the main thread copies, another one writes and agrees with the other ranks."""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from pretrain.checkpoint.save import newest_tag, tag_of, write_checkpoint
from pretrain.checkpoint.snapshot import Snapshot, Staging
from pretrain.config import CheckpointConfig
from pretrain.distributed import FailureElsewhereError, Ranks
from pretrain.engine import Engine
from pretrain.phases import RunState
from pretrain.track.metrics import Record


class Saver:
    """Saves a run's checkpoints under `directory`. One save is written at a time; the next one waits for it.

    `run` is what a resume must match; `last_step` is where the run ends. A complete checkpoint is told to `saved` on
    rank 0. A save that fails costs a warning, given to `warn` there, and the training goes on; only when nothing comes
    after it, it is an error. Both are called in the thread that writes. Leaving the context waits for a save that is
    being written, unless a bug or a lost rank is the reason: then the process is to end at once, and what is
    half-written does not count.
    """

    def __init__(
        self,
        directory: Path,
        config: CheckpointConfig,
        engine: Engine,
        ranks: Ranks,
        *,
        run: dict[str, Any],
        last_step: int,
        warn: Callable[[str], None],
        saved: Callable[[Path], None] = lambda tag: None,
    ) -> None:
        self._directory, self._config, self._engine, self._ranks = directory, config, engine, ranks
        self._run, self._last_step, self._warn, self._saved = run, last_step, warn, saved
        self._staging = Staging()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[OSError | ValueError | None] | None = None
        self._stall_seconds = 0.0
        self._save_seconds: float | None = None  # of the last one that was completed and is not in the metrics yet
        self._failures = 0

    def save(self, state: RunState, *, last: bool) -> None:
        """Save the run as it is now. All ranks call it after the same step; `last` when no other save will follow.

        It returns once the copy is made; once the checkpoint is complete if `last`, or if saving is not asynchronous.
        Raises OSError (FailureElsewhereError where another rank failed) when the last save fails.
        """
        started = time.perf_counter()
        self._wait()
        begun = time.perf_counter()
        snapshot = self._staging.take(self._engine, state, self._ranks)
        self._writing = self._thread.submit(self._write, snapshot, last, begun)
        failure = None if self._config.asynchronous and not last else self._wait()
        self._stall_seconds += time.perf_counter() - started
        if last and failure is not None:
            kind = FailureElsewhereError if isinstance(failure, FailureElsewhereError) else OSError
            raise kind(
                f"the last checkpoint, of step {state.step}, was not saved: {failure}. Free or mend the disk of "
                f"{self._directory}; the same command goes on from {self._newest()}"
            ) from failure

    def metrics(self) -> Record:
        """Return what saving adds to a metrics line, as far as there is something to tell since the last one.

        `save_stall_seconds` held the training up, `save_seconds` passed until the last save was complete,
        `save_failures` have failed since the start. Raises what a bug in the thread raised.
        """
        if self._writing is not None and self._writing.done():
            self._writing.result()
        record: Record = {"save_stall_seconds": self._stall_seconds} if self._stall_seconds else {}
        self._stall_seconds = 0.0
        seconds, self._save_seconds = self._save_seconds, None
        record |= {} if seconds is None else {"save_seconds": seconds}
        return record | ({"save_failures": self._failures} if self._failures else {})

    def __enter__(self) -> "Saver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=error is None or isinstance(error, ValueError | OSError))

    def _wait(self) -> OSError | ValueError | None:
        return None if self._writing is None else self._writing.result()

    def _write(self, snapshot: Snapshot, last: bool, begun: float) -> OSError | ValueError | None:
        """In the thread: write a snapshot that was begun then; return why it failed."""
        tag = tag_of(snapshot.state.step)
        try:
            not_pruned = write_checkpoint(self._directory, snapshot, self._ranks.for_saving(), self._config, self._run)
        except (OSError, ValueError) as failure:
            self._failures += 1
            if not last:
                self._tell(partial(self._describe, snapshot.state.step, failure))
            return failure
        self._save_seconds = time.perf_counter() - begun
        if self._ranks.is_first:
            self._saved(self._directory / tag)
        if not_pruned is not None:
            self._tell(lambda: f"WARNING: {tag} is saved, but older checkpoints could not be pruned: {not_pruned}")
        return None

    def _tell(self, describe: Callable[[], str]) -> None:
        """Warn on rank 0. What breaks a save may break this too (the log on the same disk): that ends nothing."""
        if self._ranks.is_first:
            with contextlib.suppress(OSError):
                self._warn(describe())

    def _describe(self, step: int, failure: Exception) -> str:
        every = self._config.save_every
        again = min(step + every - step % every, self._last_step)
        return (
            f"WARNING: {tag_of(step)} was not saved: {failure}. The training goes on; free or mend the disk of "
            f"{self._directory}. A crash now would go on from {self._newest()}; the next try is after step {again}"
        )

    def _newest(self) -> str:
        return newest_tag(self._directory) or "scratch: there is no checkpoint yet"
