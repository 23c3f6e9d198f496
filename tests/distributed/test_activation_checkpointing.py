"""Under ZeRO too, layers that are computed twice give the numbers of layers that are computed once."""

import pytest

from pretrain.track.metrics_file import read_metrics
from tests.distributed.runs import ALBERT, EXACT, engine_overrides, train_run


@pytest.mark.parametrize(
    ("stage", "precision", "model"),
    [
        (2, "bf16", []),
        pytest.param(3, "fp32", [], marks=pytest.mark.slow),
        pytest.param(3, "bf16", ALBERT, marks=pytest.mark.slow),
    ],
    ids=["stage 2", "stage 3", "stage 3, shared layers"],
)
def test_a_run_may_change_activation_checkpointing_and_no_bit_of_its_lines(
    worker_group, shards, tmp_path, stage, precision, model
):
    group, engine = worker_group(2), [*engine_overrides(stage, precision), *model]
    for name, lives in (("once", [(8, "false")]), ("twice", [(4, "true"), (8, "false")])):
        for stop, checkpointing in lives:
            overrides = [f"stop_after={stop}", f"engine.activation_checkpointing={checkpointing}"]
            group.run(train_run, shards, tmp_path / name, *engine, *overrides)
    once, twice = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("once", "twice"))
    assert len(once) == 8
    assert [[line[key] for key in EXACT] for line in once] == [[line[key] for key in EXACT] for line in twice]
