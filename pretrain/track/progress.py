"""How far a training is, for the person who waits: a bar on a terminal, a line now and then in a log file."""

import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from tqdm import tqdm

from pretrain.track.metrics import Record

SECONDS_BETWEEN_LINES = 30.0


class Progress(Protocol):
    """What the loop tells of its steps. `record` is the newest line of metrics, or None if none came with the step."""

    def update(self, step: int, record: Record | None = None) -> None:
        """Say that `step` steps of the run are done."""

    def note(self, text: str) -> None:
        """Show a line of its own, such as a held-out result or a saved checkpoint."""

    def close(self) -> None:
        """Leave the last state standing."""


def open_progress(*, rank: int, start_step: int, max_steps: int, stream: TextIO | None = None) -> Progress:
    """Return the progress display of a rank; only rank 0 shows anything. `stream` is stderr unless given."""
    stream = sys.stderr if stream is None else stream
    if rank != 0:
        return NoProgress()
    if stream.isatty():
        return ProgressBar(start_step=start_step, max_steps=max_steps, stream=stream)
    return ProgressLines(start_step=start_step, max_steps=max_steps, stream=stream)


class NoProgress:
    """The display of all ranks but the first."""

    def update(self, step: int, record: Record | None = None) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Leave nothing."""


class ProgressBar:
    """A tqdm bar: steps, steps per second, time left, loss, learning rate and tokens per second."""

    def __init__(self, *, start_step: int, max_steps: int, stream: TextIO) -> None:
        self._bar: Any = tqdm(
            desc="pretrain", total=max_steps, initial=start_step, unit="step", file=stream, dynamic_ncols=True
        )

    def update(self, step: int, record: Record | None = None) -> None:
        """Move the bar to `step`; redrawn at most ten times a second."""
        if record is not None:
            self._bar.set_postfix_str(describe(record), refresh=False)
        self._bar.update(step - self._bar.n)

    def note(self, text: str) -> None:
        """Show `text` above the bar."""
        self._bar.write(text, file=self._bar.fp)

    def close(self) -> None:
        """Draw the bar a last time."""
        self._bar.close()


class ProgressLines:
    """Plain lines: for the first step, then one every `SECONDS_BETWEEN_LINES` at most, and for the last step."""

    def __init__(
        self, *, start_step: int, max_steps: int, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._start_step, self._max_steps = start_step, max_steps
        self._stream, self._clock = stream, clock
        self._start_time = clock()
        self._step = self._shown_step = start_step
        self._shown_time = self._start_time - SECONDS_BETWEEN_LINES
        self._record: Record = {}

    def update(self, step: int, record: Record | None = None) -> None:
        """Print a line if one is due."""
        self._step = step
        self._record = self._record if record is None else record
        if self._clock() - self._shown_time >= SECONDS_BETWEEN_LINES or step >= self._max_steps:
            self._show()

    def note(self, text: str) -> None:
        """Print `text`."""
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Print the last step, unless it was."""
        if self._step != self._shown_step:
            self._show()

    def _show(self) -> None:
        self._shown_step, self._shown_time = self._step, self._clock()
        share = self._step / self._max_steps
        parts = [f"step {self._step}/{self._max_steps} ({share:.0%})", describe(self._record)]
        elapsed, done = self._shown_time - self._start_time, self._step - self._start_step
        if done > 0:
            left = elapsed / done * (self._max_steps - self._step)
            parts.append(f"{tqdm.format_interval(left)} left")
        print(" | ".join(part for part in parts if part), file=self._stream, flush=True)


def describe(record: Record) -> str:
    """Return the numbers worth a glance, as `loss 6.4312, lr 1.25e-04, 12,345 tokens/s`; those that are there."""
    formats = {
        "loss": "loss {:.4f}",
        "held_out_mlm_loss": "held-out {:.4f}",
        "learning_rate": "lr {:.2e}",
        "tokens_per_second": "{:,.0f} tokens/s",
    }
    return ", ".join(text.format(record[name]) for name, text in formats.items() if record.get(name) is not None)
