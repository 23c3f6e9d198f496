"""The quick start keeps its promises: it learns, it is interrupted and resumed, and a second call redoes nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pretrain.track.metrics_file import read_metrics

ROOT = Path(__file__).resolve().parents[2]
LEARNED_NATS = 0.5


def quickstart(folder: Path) -> str:
    pytest.importorskip("botocore", reason="the quick start's corpus is in the extra `quickstart`")
    result = subprocess.run(
        [sys.executable, "-m", "launch.quickstart"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1500,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.timeout(3200)
def test_the_quick_start_learns_from_context_survives_an_interruption_and_redoes_nothing(tmp_path):
    first = quickstart(tmp_path)
    records = read_metrics(tmp_path / "runs/quickstart/run/metrics.jsonl")
    last = records[-1]
    assert last["held_out_mlm_loss"] <= last["held_out_unigram_entropy"] - LEARNED_NATS
    assert sum(record.get("resumed", False) for record in records) == 1
    stopped = re.search(r"stopped on SIGUSR1 after step ([\d,]+) of 1,200, saved", first)
    assert stopped
    assert 550 <= int(stopped[1].replace(",", "")) <= 750
    assert f"learned from context        {last['held_out_unigram_entropy'] - last['held_out_mlm_loss']:.3f}" in first
    for said in ("guesses: ", "its logits differ from ours by at most", "runs/quickstart/run/loss.png", "tokens/s"):
        assert said in first
    assert "Traceback" not in first
    # A machine that others share may really slow down.
    assert "warning" not in re.sub(r"WARNING: [\d,]+ tokens/s in the .* is the median", "", first).lower()
    assert len(first.splitlines()) < 150, "no wall of lines"

    before = state_of(tmp_path)
    second = quickstart(tmp_path)
    assert state_of(tmp_path) == before
    assert second.count("already") >= 5
