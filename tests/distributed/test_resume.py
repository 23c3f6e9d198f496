"""The same command goes on where the run stood: to the last bit at the same world size, by sequence at any other."""

from pathlib import Path

import pytest

from pretrain.track.metrics_file import read_metrics
from tests.distributed.runs import STAGES, engine_overrides, train_run
from tests.shards import write_shards

EXACT = (
    "step",
    "epoch",
    "loss",
    "mlm_loss",
    "mlm_accuracy",
    "nsp_loss",
    "nsp_accuracy",
    "learning_rate",
    "grad_norm",
    "tokens_seen",
    "sequences_seen",
    "sequence_hash",
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


def lines(run_dir: Path, keys=EXACT) -> list[tuple]:
    return [tuple(record.get(key) for key in keys) for record in read_metrics(run_dir / "metrics.jsonl")]


@pytest.mark.parametrize(("stage", "precision"), STAGES)
def test_the_next_ten_steps_after_a_resume_equal_an_uninterrupted_run_to_the_last_bit(
    worker_group, shards, tmp_path, stage, precision
):
    group, engine = worker_group(2), engine_overrides(stage, precision)
    group.run(train_run, shards, tmp_path / "whole", *engine)
    group.run(train_run, shards, tmp_path / "cut", *engine, "stop_after=10")
    assert len(lines(tmp_path / "cut")) == 10
    group.run(train_run, shards, tmp_path / "cut", *engine)
    whole, cut = lines(tmp_path / "whole"), lines(tmp_path / "cut")
    assert len(whole) == 20
    assert cut == whole
    assert whole[-1][2] < whole[0][2] - 0.1, "the model must learn, else equal numbers show little"


def test_another_world_size_reads_the_same_sequences_and_gets_the_same_losses(worker_group, shards, tmp_path):
    worker_group(2).run(train_run, shards, tmp_path / "whole", *engine_overrides(1, "fp32"))
    for world_size, stage, stop in ((2, 1, 6), (3, 2, 12), (1, 0, 20)):
        stop_after = [f"stop_after={stop}"]
        worker_group(world_size).run(train_run, shards, tmp_path / "cut", *engine_overrides(stage, "fp32"), *stop_after)
    whole, cut = lines(tmp_path / "whole"), lines(tmp_path / "cut")
    keys = [EXACT.index(key) for key in ("step", "learning_rate", "tokens_seen", "sequences_seen", "sequence_hash")]
    assert [[line[key] for key in keys] for line in whole] == [[line[key] for key in keys] for line in cut]
    losses = EXACT.index("loss")
    assert [line[losses] for line in cut] == pytest.approx([line[losses] for line in whole], rel=1e-5)


def test_two_phases_are_one_run_that_can_be_cut_on_either_side_of_the_switch(worker_group, shards, tmp_path):
    longer = write_shards(tmp_path / "longer", max_length=32, seed=1)
    phase = "{{name: {}, shards_dir: {}, max_steps: {}, learning_rate: 0.01, data: {}, lr_schedule: ${{lr_schedule}}}}"
    first = phase.format("short", shards, 7, "${data}")
    second = phase.format("long", longer, 6, "{global_batch_size: 6, micro_batch_size: 1, num_streams: 6}")
    two_phases = [f"phases=[{first},{second}]", *engine_overrides(1, "bf16")]
    group = worker_group(2)
    group.run(train_run, shards, tmp_path / "whole", *two_phases)
    for stop in (6, 7, 8, 13):
        group.run(train_run, shards, tmp_path / "cut", *two_phases, f"stop_after={stop}")
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    phases = [record["phase"] for record in read_metrics(tmp_path / "whole" / "metrics.jsonl")]
    assert phases == [0] * 7 + [1] * 6
    sequences = EXACT.index("sequences_seen")
    assert [line[sequences] for line in lines(tmp_path / "whole")][6:9] == [84, 90, 96]
