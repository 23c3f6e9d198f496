"""The same command goes on where the run stood: to the last bit at the same world size, by sequence at any other."""

from pathlib import Path

import pytest

from pretrain.checkpoint.fragments_file import StoredFragment
from pretrain.checkpoint.restore import newest_checkpoint, read_checkpoint
from pretrain.track.metrics_file import read_metrics
from tests.distributed.runs import ALBERT, STAGES, engine_overrides, lines, train_run
from tests.shards import write_shards

ALWAYS = [(0, "fp32"), (1, "bf16"), (2, "bf16"), (3, "fp32")]


@pytest.mark.parametrize(
    ("stage", "precision"),
    [pytest.param(*pair, marks=() if pair in ALWAYS else pytest.mark.slow) for pair in STAGES],
)
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


BY_SEQUENCE = ("step", "learning_rate", "tokens_seen", "sequences_seen", "sequence_hash", "skipped_steps")


def go_through(worker_group, shards: Path, run_dir: Path, lives: list[tuple[int, int, str]], *overrides: str) -> None:
    """Train `shards` in lives of equal length, each with (world size, stage, precision) of its own."""
    for number, (world_size, stage, precision) in enumerate(lives, start=1):
        stop_after = f"stop_after={number * 20 // len(lives)}"
        engine = engine_overrides(stage, precision)
        worker_group(world_size).run(train_run, shards, run_dir, *engine, stop_after, *overrides)


@pytest.mark.parametrize(
    ("lives", "model"),
    [
        ([(world_size, 1, "fp32") for world_size in (4, 2, 3, 1, 5)], []),
        ([(2, stage, "fp32") for stage in (0, 3, 1, 2)], []),
        ([(2, 3, "fp32"), (3, 1, "fp32")], ALBERT),
        pytest.param(
            [(4, 3, "fp32"), (2, 2, "fp32"), (3, 3, "fp32"), (1, 0, "fp32"), (5, 1, "fp32")], [], marks=pytest.mark.slow
        ),
        pytest.param([(2, stage, "fp32") for stage in (0, 3, 1, 2)], ALBERT, marks=pytest.mark.slow),
    ],
    ids=["world sizes", "stages", "shared layers", "both", "stages, shared layers"],
)
def test_another_layout_reads_the_same_sequences_and_gets_the_same_losses(worker_group, shards, tmp_path, lives, model):
    go_through(worker_group, shards, tmp_path / "whole", [(2, 2, "fp32")], *model)
    go_through(worker_group, shards, tmp_path / "cut", lives, *model)
    assert lines(tmp_path / "cut", BY_SEQUENCE) == lines(tmp_path / "whole", BY_SEQUENCE)
    losses, norms = (
        [[line[0] for line in lines(tmp_path / name, (key,))] for name in ("cut", "whole")]
        for key in ("loss", "grad_norm")
    )
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


def test_another_precision_goes_on_with_the_same_sequences_and_nearly_the_same_losses(worker_group, shards, tmp_path):
    go_through(worker_group, shards, tmp_path / "whole", [(2, 2, "fp32")])
    go_through(worker_group, shards, tmp_path / "cut", [(2, 2, "fp32"), (2, 3, "bf16"), (2, 0, "bf16"), (1, 0, "fp32")])
    assert lines(tmp_path / "cut", BY_SEQUENCE) == lines(tmp_path / "whole", BY_SEQUENCE)
    cut, whole = ([line[0] for line in lines(tmp_path / name, ("loss",))] for name in ("cut", "whole"))
    assert cut[:5] == pytest.approx(whole[:5], rel=1e-5)
    assert cut == pytest.approx(whole, rel=1e-2)


def two_phases(shards: Path, longer: Path, optimizer_state: str) -> str:
    phase = (
        "{{name: {}, shards_dir: {}, max_steps: {}, learning_rate: 0.01, data: {}, lr_schedule: ${{lr_schedule}}, "
        "optimizer_state: {}}}"
    )
    first = phase.format("short", shards, 7, "${data}", "carry")
    data = "{global_batch_size: 6, micro_batch_size: 1, num_streams: 6}"
    return f"phases=[{first},{phase.format('long', longer, 6, data, optimizer_state)}]"


@pytest.mark.parametrize("optimizer_state", ["carry", pytest.param("reset", marks=pytest.mark.slow)])
def test_two_phases_are_one_run_that_can_be_cut_on_either_side_of_the_switch(
    worker_group, shards, tmp_path, optimizer_state
):
    longer = write_shards(tmp_path / "longer", max_length=32, seed=1)
    phases = two_phases(shards, longer, optimizer_state)
    engine = engine_overrides(1, "bf16")
    group = worker_group(2)
    group.run(train_run, shards, tmp_path / "whole", phases, *engine)
    for stop in (6, 7, 8, 13):
        group.run(train_run, shards, tmp_path / "cut", phases, *engine, f"stop_after={stop}")
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    records = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    assert [record["phase"] for record in records] == [0] * 7 + [1] * 6
    assert [record["sequences_seen"] for record in records][6:9] == [84, 90, 96]
    updates = {fragment.updates for fragment in stored_fragments(tmp_path / "whole")}
    assert updates == {13 if optimizer_state == "carry" else 6}


def stored_fragments(run_dir: Path) -> list[StoredFragment]:
    return [item for file in read_checkpoint(newest_checkpoint(run_dir)).files for item in file.fragments]


def test_trust_ratios_are_metrics_by_layer(worker_group, shards, tmp_path):
    worker_group(2).run(train_run, shards, tmp_path / "run", *engine_overrides(3, "bf16"), "stop_after=2")
    record = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
    layers = {name: record[name] for name in record if name.startswith("trust_ratio/")}
    parts = ("embeddings", "layers.0", "layers.1", "mlm_head", "nsp_head", "pooler")
    assert sorted(layers) == [f"trust_ratio/{part}" for part in parts]
    smallest, middle, largest = (record[f"trust_ratio_{name}"] for name in ("min", "median", "max"))
    assert 0 < smallest <= min(layers.values()) <= middle <= max(layers.values()) <= largest
