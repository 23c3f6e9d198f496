"""`RUN_DIR/metrics.jsonl`: one JSON line per logged step, in ascending order, whole after any kill."""

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from data_prep.atomic_file import write_atomically
from pretrain.track.metrics import Record

METRICS_FILE = "metrics.jsonl"
DISCARDED_FILE = "metrics.discarded.jsonl"
TORN_LINE = "torn_line"

# JSON has no such numbers; these are the spellings of protobuf's JSON mapping, and float() reads them.
NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

logger = logging.getLogger(__name__)


def encode_record(record: Record) -> bytes:
    """Return `record` as one JSON line with its newline. Keys that are None are left out; floats keep every bit.

    NaN and the infinities become the strings "NaN", "Infinity" and "-Infinity", so the line stays valid JSON.
    """

    def plain(value: float | int | str) -> float | int | str:
        if not isinstance(value, float) or math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"

    fields = {key: plain(value) for key, value in record.items() if value is not None}
    return json.dumps(fields, allow_nan=False).encode() + b"\n"


def decode_record(line: bytes) -> Record:
    """Return the record of a line of `encode_record`, bit for bit. Raises ValueError for anything else."""
    fields: Any = json.loads(line)
    if not isinstance(fields, dict) or not isinstance(fields.get("step"), int):
        raise ValueError("not a JSON object with a step")
    return {key: NON_FINITE.get(value, value) if isinstance(value, str) else value for key, value in fields.items()}


def read_metrics(path: Path) -> list[Record]:
    """Return the records of a metrics file, oldest first. A last line without its newline is still being written.

    Raises ValueError naming file and line when there is no such file or a line cannot be read.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist: not a run directory, or no step was logged there yet")
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            continue
        try:
            records.append(decode_record(line))
        except ValueError as error:
            raise ValueError(
                f"{path}, line {number}: {error}; the next start of this run moves such lines to {DISCARDED_FILE}"
            ) from error
    return records


class LoggedSteps(NamedTuple):
    """What was logged of a run before this start; 0 when nothing was."""

    last: int  # the highest step ever, discarded lines included
    kept: int  # the highest step that this start goes on from


def logged_steps(run_dir: Path, *, start_step: int) -> LoggedSteps:
    """Return what was logged in `run_dir`, for a start that goes on from `start_step`.

    Call it before the lines beyond that step are discarded.
    """
    last = kept = 0
    for step in _steps_in(run_dir / METRICS_FILE):
        last = max(last, step)
        kept = max(kept, step) if step <= start_step else kept
    return LoggedSteps(last=max(last, max(_steps_in(run_dir / DISCARDED_FILE), default=0)), kept=kept)


def last_logged_step(path: Path) -> int:
    """Return the step of the last line that can be read; 0 if there is none."""
    lines = path.read_bytes().splitlines() if path.is_file() else []
    return next((step for line in reversed(lines) if (step := _step_of(line)) is not None), 0)


def _steps_in(path: Path) -> Iterator[int]:
    """Yield the steps of a file's lines. A torn one was never shown to a tracker: trackers come after this file."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            if (step := _step_of(line)) is not None:
                yield step


class MetricsLog:
    """The metrics of a run, appended line by line. Opening it moves torn lines to `metrics.discarded.jsonl`."""

    def __init__(self, run_dir: Path) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self.path = run_dir / METRICS_FILE
        self._discarded = run_dir / DISCARDED_FILE
        self.last_step = 0
        self._file = self.path.open("ab")
        self._discard(beyond=None)

    def append(self, record: Record) -> None:
        """Write one line and hand it to the operating system: a killed process loses nothing that was appended."""
        step = record["step"]
        assert isinstance(step, int)
        assert step > self.last_step, f"step {step} after step {self.last_step}"
        self._file.write(encode_record(record))
        self._file.flush()
        self.last_step = step

    def discard_after(self, step: int) -> int:
        """Move the lines beyond `step` to `metrics.discarded.jsonl`; return how many. For a resume from `step`."""
        return self._discard(beyond=step)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _discard(self, *, beyond: int | None) -> int:
        data = self.path.read_bytes()
        keep, discard = split_lines(data, beyond=beyond)
        if discard:
            # They are safe in the other file before they leave this one; a kill in between repeats none of them.
            before = self._discarded.read_bytes() if self._discarded.exists() else b""
            if not before.endswith(discard):
                write_atomically(self._discarded, before + discard)
        if keep != data:
            self._file.close()
            write_atomically(self.path, keep)
            self._file = self.path.open("ab")
        self.last_step = _step_of(keep.rstrip().rpartition(b"\n")[2]) or 0
        return discard.count(b"\n")


def split_lines(data: bytes, *, beyond: int | None) -> tuple[bytes, bytes]:
    """Return (lines to keep, lines to discard): those beyond a step, and torn ones, wrapped so that they are JSON."""
    keep: list[bytes] = []
    discard: list[bytes] = []
    for line in data.splitlines():
        step = _step_of(line)
        if step is None:
            text = line.decode(errors="backslashreplace")
            logger.warning("%s: moved a torn line to %s: %.80r", METRICS_FILE, DISCARDED_FILE, text)
            discard.append(json.dumps({TORN_LINE: text}).encode() + b"\n")
        else:
            (keep if beyond is None or step <= beyond else discard).append(line + b"\n")
    return b"".join(keep), b"".join(discard)


def _step_of(line: bytes) -> int | None:
    """Return the step of a line, or None if it cannot be read."""
    try:
        step = decode_record(line)["step"]
    except ValueError:
        return None
    assert isinstance(step, int)
    return step
