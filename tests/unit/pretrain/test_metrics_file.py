import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.track.metrics import Record
from pretrain.track.metrics_file import (
    LoggedSteps,
    MetricsLog,
    decode_record,
    encode_record,
    logged_steps,
    read_metrics,
    split_lines,
)

RECORDS: list[Record] = [{"step": step, "loss": 10 / step, "tokens_seen": 128 * step} for step in (10, 20, 30, 40)]


def write(run_dir: Path, records: list[Record]) -> None:
    with MetricsLog(run_dir) as log:
        for record in records:
            log.append(record)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


values = st.floats() | st.integers() | st.booleans() | st.none()


@settings(max_examples=300)
@given(st.dictionaries(st.text(max_size=8).filter(lambda key: key != "step"), values), st.integers(0))
def test_a_record_comes_back_to_the_last_bit(fields: dict[str, float | int | None], step: int) -> None:
    record: Record = {"step": step, **fields}
    line = encode_record(record)
    assert line.count(b"\n") == 1
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    back = decode_record(line)
    assert repr(back) == repr({key: value for key, value in record.items() if value is not None})


def test_numbers_that_json_lacks_are_written_as_strings() -> None:
    line = encode_record({"step": 1, "loss": math.nan, "grad_norm": math.inf, "other": -math.inf})
    assert json.loads(line) == {"step": 1, "loss": "NaN", "grad_norm": "Infinity", "other": "-Infinity"}


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    write(tmp_path, RECORDS)
    assert read_metrics(tmp_path / "metrics.jsonl") == RECORDS
    assert not (tmp_path / "metrics.discarded.jsonl").exists()


def test_steps_may_not_go_back(tmp_path: Path) -> None:
    write(tmp_path, RECORDS[:2])
    with MetricsLog(tmp_path) as log, pytest.raises(AssertionError, match="step 20 after step 20"):
        log.append(RECORDS[1])


def test_a_killed_process_loses_no_line(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from pretrain.track.metrics_file import MetricsLog\n"
        "log = MetricsLog(Path(sys.argv[1]))\n"
        "for step in range(1, 101): log.append({'step': step})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert killed.returncode == -9
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == list(range(1, 101))


def test_a_file_cut_anywhere_is_whole_again_after_opening_and_keeps_every_byte(tmp_path: Path) -> None:
    whole = b"".join(map(encode_record, RECORDS[:3]))
    for cut in range(len(whole) + 1):
        run_dir = tmp_path / str(cut)
        run_dir.mkdir()
        (run_dir / "metrics.jsonl").write_bytes(whole[:cut])
        write(run_dir, RECORDS[3:])
        # A line is complete from its closing brace on; the newline may be missing.
        complete = sum(cut >= end - 1 for end in (whole.find(b"}", i) + 2 for i in _line_starts(whole)))
        assert read_metrics(run_dir / "metrics.jsonl") == RECORDS[:complete] + RECORDS[3:]
        torn = whole[_line_starts(whole)[complete] : cut] if complete < 3 else b""
        discarded = run_dir / "metrics.discarded.jsonl"
        assert (lines(discarded) if discarded.exists() else []) == ([{"torn_line": torn.decode()}] if torn else [])


def _line_starts(data: bytes) -> list[int]:
    return [0] + [i + 1 for i, byte in enumerate(data[:-1]) if byte == ord("\n")]


def test_bytes_that_are_no_text_are_kept_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(
        encode_record(RECORDS[0]) + b"\0\xff\0" + b"\n" + encode_record(RECORDS[1])
    )
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: "):
        read_metrics(tmp_path / "metrics.jsonl")
    with caplog.at_level(logging.WARNING):
        MetricsLog(tmp_path).close()
    assert "torn line" in caplog.text
    assert read_metrics(tmp_path / "metrics.jsonl") == RECORDS[:2]
    assert lines(tmp_path / "metrics.discarded.jsonl") == [{"torn_line": "\0\\xff\0"}]


def test_a_rollback_moves_the_lines_beyond_the_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, RECORDS)
    with MetricsLog(tmp_path) as log:
        assert log.discard_after(25) == 2
        log.append({"step": 30, "loss": 0.5})
        assert log.discard_after(25) == 1
        assert log.discard_after(25) == 0
        log.append({"step": 30, "loss": 0.25})
    assert read_metrics(tmp_path / "metrics.jsonl") == [*RECORDS[:2], {"step": 30, "loss": 0.25}]
    assert lines(tmp_path / "metrics.discarded.jsonl") == [*RECORDS[2:], {"step": 30, "loss": 0.5}]


def test_a_rollback_that_was_killed_half_way_repeats_no_line(tmp_path: Path) -> None:
    write(tmp_path, RECORDS)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with MetricsLog(tmp_path) as log:
        log.discard_after(20)
    (tmp_path / "metrics.jsonl").write_bytes(before)  # the kill came between the two renames
    with MetricsLog(tmp_path) as log:
        log.discard_after(20)
    assert read_metrics(tmp_path / "metrics.jsonl") == RECORDS[:2]
    assert lines(tmp_path / "metrics.discarded.jsonl") == RECORDS[2:]


@settings(max_examples=100)
@given(st.sets(st.integers(1, 50)), st.integers(0, 60))
def test_every_line_is_kept_or_discarded(steps: set[int], beyond: int) -> None:
    written = [encode_record({"step": step}) for step in sorted(steps)]
    keep, discard = split_lines(b"".join(written), beyond=beyond)
    assert keep + discard == b"".join(written)
    assert [record["step"] for record in map(decode_record, keep.splitlines())] == [
        step for step in sorted(steps) if step <= beyond
    ]


def test_logged_steps_are_the_last_ever_and_the_last_that_a_start_goes_on_from(tmp_path: Path) -> None:
    assert logged_steps(tmp_path, start_step=0) == LoggedSteps(last=0, kept=0)
    write(tmp_path, RECORDS)
    assert logged_steps(tmp_path, start_step=40) == LoggedSteps(last=40, kept=40)
    assert logged_steps(tmp_path, start_step=25) == LoggedSteps(last=40, kept=20)
    assert logged_steps(tmp_path, start_step=5) == LoggedSteps(last=40, kept=0)
    with MetricsLog(tmp_path) as log:
        log.discard_after(20)
        log.append({"step": 30})
    assert logged_steps(tmp_path, start_step=40) == LoggedSteps(last=40, kept=30)


def test_a_line_still_being_written_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, RECORDS[:2])
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 30, "lo')
    assert read_metrics(tmp_path / "metrics.jsonl") == RECORDS[:2]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"metrics\.jsonl does not exist"):
        read_metrics(tmp_path / "metrics.jsonl")
