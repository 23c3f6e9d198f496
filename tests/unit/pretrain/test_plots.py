import math
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from pretrain.track.metrics import Record
from pretrain.track.metrics_file import MetricsLog
from pretrain.track.plots import main, plot_losses, running_mean, series

WHITE = 1.0


def run(run_dir: Path, count: int, *, pairs: bool = True, held_out: bool = True) -> Path:
    """Write the metrics of a plausible run with `count` lines; return the file."""
    draw = random.Random(0)
    with MetricsLog(run_dir) as log:
        for i in range(1, count + 1):
            record: Record = {"step": 10 * i, "mlm_loss": 5.4 + 3 * math.exp(-6 * i / count) + draw.gauss(0, 0.1)}
            if pairs:
                record |= {"nsp_loss": 0.69 - 0.1 * i / count, "nsp_accuracy": 0.5 + 0.2 * i / count}
            if held_out and i % max(count // 5, 1) == 0:
                record |= {"held_out_mlm_loss": 5.5, "held_out_unigram_entropy": 6.3, "held_out_nsp_accuracy": 0.6}
            if i == count // 2 + 1:
                record["resumed"] = True
            log.append(record)
    return run_dir / "metrics.jsonl"


@pytest.mark.parametrize(
    ("count", "pairs", "held_out"), [(1, True, True), (2, False, True), (300, True, True), (300, False, False)]
)
def test_a_run_of_any_kind_is_drawn(tmp_path: Path, count: int, pairs: bool, held_out: bool) -> None:
    output = tmp_path / "curve.png"
    plot_losses(run(tmp_path, count, pairs=pairs, held_out=held_out), output)
    image = imread(output)
    height, width = image.shape[:2]
    assert width == 1200
    assert height == (960 if pairs else 690)
    assert 0.01 < float((image[..., :3] < WHITE).any(axis=-1).mean()) < 0.2


def test_the_picture_does_not_change_from_run_to_run(tmp_path: Path) -> None:
    metrics = run(tmp_path, 50)
    plot_losses(metrics, tmp_path / "a.png")
    plot_losses(metrics, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_diverged_run_is_drawn_up_to_there(tmp_path: Path) -> None:
    metrics = run(tmp_path, 100)
    with MetricsLog(tmp_path) as log:
        log.append({"step": 2000, "mlm_loss": math.nan, "nsp_loss": math.inf})
    plot_losses(metrics, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_series_picks_the_lines_that_have_the_key() -> None:
    records: list[Record] = [{"step": 1, "x": 2}, {"step": 2}, {"step": 3, "x": None}, {"step": 4, "x": math.nan}]
    assert series([*records, {"step": 5, "x": 0.5}], "x") == ([1, 5], [2, 0.5])


@settings(max_examples=100)
@given(st.lists(st.floats(-100, 100), max_size=60), st.integers(2, 20))
def test_running_mean_is_the_mean_of_the_neighbours(values: list[float], window: int) -> None:
    means = running_mean(values, window)
    assert len(means) == len(values)
    half = window // 2
    for i in range(half, len(values)):
        near = values[i - half : i + half + 1]
        assert means[i] == pytest.approx(sum(near) / len(near), abs=1e-9)
    assert means[:1] == pytest.approx(values[:1], abs=1e-9)


def test_the_command_writes_into_the_run_directory_or_where_it_is_told(tmp_path: Path) -> None:
    run(tmp_path, 5)
    command = [sys.executable, "-m", "pretrain.track.plots", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{tmp_path / 'loss.png'}\n", "")
    assert main([str(tmp_path), "--output", str(tmp_path / "other.png")]) == 0
    assert (tmp_path / "loss.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def test_a_folder_without_metrics_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "metrics.jsonl does not exist" in capsys.readouterr().err
    with MetricsLog(tmp_path) as log:
        log.append({"step": 1, "mlm_loss": math.nan})
    assert main([str(tmp_path)]) == 1
    assert "no finite mlm_loss" in capsys.readouterr().err
