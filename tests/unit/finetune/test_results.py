"""Several seeds become a mean and a sample standard deviation, printed and written."""

import json

import numpy as np
import pytest

from finetune.results import SeedResult, summarize, table, write_results


def seed(number: int, f1: float, loss: float) -> SeedResult:
    return SeedResult(number, f"seed-{number}/model", 10, {"eval": {"f1": f1, "loss": loss}})


SEEDS = [seed(0, 0.5, 1.0), seed(1, 0.75, 3.0), seed(2, 0.625, 0.5)]


def test_the_deviation_is_the_sample_one():
    results = summarize("tagging", "f1", SEEDS, lower_is_better=False)
    assert results.best_seed == 1
    assert results.mean["eval"]["f1"] == pytest.approx(0.625)
    assert results.std is not None
    assert results.std["eval"]["loss"] == pytest.approx(np.std([1.0, 3.0, 0.5], ddof=1))
    assert summarize("tagging", "loss", SEEDS, lower_is_better=True).best_seed == 2


def test_the_table_has_a_line_per_seed_and_one_for_all():
    lines = table(summarize("tagging", "f1", SEEDS, lower_is_better=False)).splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["eval", "f1"],
        ["seed", "0"],
        ["seed", "1"],
        ["seed", "2"],
        ["mean", "±"],
    ]
    assert "0.6250 ± 0.1250" in lines[-1]
    assert len({len(line) for line in lines}) == 1


def test_one_seed_has_no_deviation(tmp_path):
    results = summarize("tagging", "f1", SEEDS[:1], lower_is_better=False)
    assert len(table(results).splitlines()) == 2
    write_results(tmp_path, results)
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["std"] is None
    assert written["seeds"][0]["scores"]["eval"] == {"f1": 0.5, "loss": 1.0}
