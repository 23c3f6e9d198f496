"""What one rank cannot do, all ranks learn at the same point: nobody waits for ever."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.manifest import read_manifest
from pretrain.checkpoint.restore import load_full_weights, newest_checkpoint
from pretrain.data.feed import feed_steps
from pretrain.data.reader import BlockReader, ShardDirectory
from pretrain.distributed import FailureElsewhereError, Ranks
from pretrain.evaluate import entropy, evaluate
from tests.distributed.runs import engine_overrides, tiny_config, tiny_engine, train_run
from tests.shards import order_and_reader, write_shards


def outcome(act) -> tuple[str, str]:
    try:
        return "returned", repr(act())
    except Exception as error:
        return type(error).__name__, str(error)


def fail_on(ranks: Ranks, failing: list[int]):
    def act() -> int:
        if ranks.rank in failing:
            raise OSError(f"disk of rank {ranks.rank} is full")
        return ranks.rank

    return outcome(lambda: ranks.together(act))


def test_together_returns_everywhere_or_raises_everywhere(worker_group):
    group = worker_group(3)
    assert group.run(fail_on, []) == [("returned", "0"), ("returned", "1"), ("returned", "2")]
    said = "disk of rank 1 is full"
    assert group.run(fail_on, [1, 2]) == [
        ("FailureElsewhereError", said),
        ("OSError", said),
        ("FailureElsewhereError", said),
    ]


def broadcast_or_fail(ranks: Ranks, value: object):
    def make() -> object:
        assert ranks.is_first, "only rank 0 makes it"
        if isinstance(value, str):
            raise ValueError(value)
        return value

    return outcome(lambda: ranks.broadcast(make))


def test_broadcast_carries_a_value_or_an_error_from_rank_0(worker_group):
    assert worker_group(2).run(broadcast_or_fail, {"a": 1}) == [("returned", "{'a': 1}")] * 2
    assert worker_group(2).run(broadcast_or_fail, "no") == [("ValueError", "no"), ("FailureElsewhereError", "no")]


def read_with_a_lost_shard(ranks: Ranks, shards: Path, at_step: int):
    order, reader = order_and_reader(shards, num_streams=2, global_batch_size=8)
    rows, calls = reader.rows, []

    def failing_rows(*arguments):
        calls.append(arguments)
        if ranks.rank == 1 and len(calls) > at_step:
            raise OSError("the network is gone")
        return rows(*arguments)

    reader.rows = failing_rows
    steps = 0
    try:
        for _ in feed_steps(order, reader, ranks, micro_batch_size=4, steps=range(50)):
            steps += 1
    except (OSError, FailureElsewhereError) as error:
        return steps, type(error).__name__
    return steps, "finished"


def test_a_rank_that_cannot_read_ends_the_feed_of_all_at_the_same_step(worker_group, shards):
    results = worker_group(2).run(read_with_a_lost_shard, shards, 6)
    (first, elsewhere), (second, here) = results
    assert first == second > 1
    assert (elsewhere, here) == ("FailureElsewhereError", "OSError")


def train_too_fast(ranks: Ranks, shards: Path, run_dir: Path, engine: list[str]):
    rate = ["optimizer.learning_rate=1e30", "lr_schedule.warmup_steps=0"]
    steps = ["checkpoint.save_every=1", "max_bad_steps=3"]
    return outcome(lambda: train_run(ranks, shards, run_dir, *engine, *rate, *steps))


@pytest.mark.parametrize(("stage", "precision"), [(0, "fp32"), (1, "bf16"), (2, "fp32")])
def test_a_diverged_run_stops_on_all_ranks_and_has_saved_nothing_that_is_no_number(
    worker_group, shards, tmp_path, stage, precision
):
    results = worker_group(2).run(train_too_fast, shards, tmp_path / "run", engine_overrides(stage, precision))
    assert [kind for kind, _ in results] == ["ValueError", "FailureElsewhereError"]
    assert "the training has diverged" in results[0][1]
    weights = load_full_weights(newest_checkpoint(tmp_path / "run"))
    assert all(bool(torch.isfinite(weight).all()) for weight in weights.values())


def leave_early(ranks: Ranks, shards: Path, after: int):
    order, reader = order_and_reader(shards)
    feed = feed_steps(order, reader, ranks, micro_batch_size=1, steps=range(1000))
    counts = [next(feed).counts for _ in range(after)]
    feed.close()
    return [(count.sequences, count.sequence_hash, count.tokens) for count in counts], [
        count.computed_tokens - count.tokens for count in counts
    ]


def test_all_ranks_can_leave_after_any_step_and_counts_do_not_depend_on_the_world_size(worker_group, shards):
    alone, fillers = worker_group(1).run(leave_early, shards, 4)[0]
    assert fillers == [0] * 4
    assert len({sequence_hash for _, sequence_hash, _ in alone}) == 4
    for world_size in (2, 4):
        for counts, fillers in worker_group(world_size).run(leave_early, shards, 4):
            assert counts == alone
            assert all(filler > 0 for filler in fillers) == (world_size == 4)


def evaluate_held_out(ranks: Ranks, shards: Path, max_sequences: int, stage: int = 0):
    config = tiny_config(shards, shards, *engine_overrides(stage, "fp32"))
    engine = tiny_engine(config, ranks)
    held_out = read_manifest(shards).splits["held_out"]
    record = evaluate(
        engine.module,
        BlockReader(ShardDirectory(str(shards)), held_out, num_streams=1),
        held_out,
        ranks,
        max_sequences=max_sequences,
        micro_batch_size=5,
        vocab_size=64,
    )
    return record, engine.module.training


def test_evaluation_does_not_depend_on_the_number_of_ranks_and_leaves_the_model_training(worker_group, tmp_path):
    shards = write_shards(tmp_path / "shards", held_out_sequences=40)
    ((alone, training),) = worker_group(1).run(evaluate_held_out, shards, 33)
    assert training
    for record, _ in worker_group(2).run(evaluate_held_out, shards, 33):
        assert record == pytest.approx(alone)
    ((fewer, _),) = worker_group(1).run(evaluate_held_out, shards, 7)
    assert fewer["held_out_mlm_loss"] != alone["held_out_mlm_loss"]


def test_ranks_without_a_held_out_block_go_through_the_passes_of_the_others_under_zero_3(worker_group, tmp_path):
    """Each forward pass is a collective there: one rank that does not join would leave the others waiting."""
    shards = write_shards(tmp_path / "shards", held_out_sequences=40)
    assert sum(shard.blocks for shard in read_manifest(shards).splits["held_out"]) < 3
    ((alone, _),) = worker_group(1).run(evaluate_held_out, shards, 33)
    for record, training in worker_group(3).run(evaluate_held_out, shards, 33, 3):
        assert record == pytest.approx(alone)
        assert training


def test_the_entropy_of_four_equal_shares_is_log_four():

    assert entropy(np.array([5, 5, 0, 5, 5])) == pytest.approx(np.log(4))
    assert entropy(np.zeros(3, dtype=np.int64)) == 0.0
