import math
from pathlib import Path

from pretrain.report.columns import MetricColumns
from pretrain.track.metrics import Record
from pretrain.track.metrics_file import MetricsLog


def append(run_dir: Path, *records: Record) -> None:
    with MetricsLog(run_dir) as log:
        for record in records:
            log.append(record)


def column(columns: MetricColumns, metric: str) -> tuple[list[float], list[float]]:
    steps, values = columns.column(metric)
    return steps.tolist(), values.tolist()


def test_a_column_has_the_lines_that_have_the_metric_and_only_numbers(tmp_path: Path) -> None:
    append(tmp_path, {"step": 1, "loss": 2.0, "hash": "x"}, {"step": 2}, {"step": 3, "loss": math.inf, "resumed": True})
    columns = MetricColumns(tmp_path)
    columns.read_new()
    assert column(columns, "loss") == ([1, 3], [2.0, math.inf])
    assert column(columns, "other") == ([], [])
    assert (columns.names, columns.step, columns.lines, columns.resumed_at) == (("loss",), 3, 3, [3])
    assert (columns.newest("loss"), columns.newest("other")) == (math.inf, None)


def test_only_what_was_added_is_read_and_a_line_once_it_is_whole(tmp_path: Path) -> None:
    columns = MetricColumns(tmp_path)
    columns.read_new()
    assert columns.lines == 0
    append(tmp_path, {"step": 1, "loss": 2.0})
    columns.read_new()
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 2, "lo')
        file.flush()
        columns.read_new()
        assert columns.step == 1
        file.write(b'ss": 1.5}\n')
    columns.read_new()
    columns.read_new()
    assert column(columns, "loss") == ([1, 2], [2.0, 1.5])


def test_a_rollback_takes_back_what_was_read(tmp_path: Path) -> None:
    append(tmp_path, *({"step": step, "loss": 1.0} for step in (1, 2, 3, 4)))
    columns = MetricColumns(tmp_path)
    columns.read_new()
    with MetricsLog(tmp_path) as log:
        log.discard_after(2)
        for step in (3, 4, 5, 6):  # the file is longer than before, but another one
            log.append({"step": step, "loss": 0.5})
    columns.read_new()
    assert column(columns, "loss") == ([1, 2, 3, 4, 5, 6], [1.0, 1.0, 0.5, 0.5, 0.5, 0.5])


def test_lines_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1, "loss": 2.0}\n\0\0\0\n{"step": 2, "loss": 1.0}\n')
    columns = MetricColumns(tmp_path)
    columns.read_new()
    assert (columns.unreadable_lines, columns.lines, columns.step) == (1, 2, 2)
