"""What real ranks tell of themselves: who is slow, what a step really held, what a profiler saw."""

import gzip
import json
import socket
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conf.compose import compose
from pretrain.config import PretrainConfig
from pretrain.data import feed
from pretrain.distributed import Ranks
from pretrain.model.bert import BertForPretraining
from pretrain.own_times import OwnTimes
from pretrain.phases import RunState
from pretrain.step import StepResult
from pretrain.track import rank_times
from pretrain.track.metrics import StepSums
from pretrain.track.metrics_file import read_metrics
from pretrain.track.rank_times import MIN_STEPS, RankTimes
from tests.distributed.runs import engine_overrides, train_run
from tests.shards import write_shards

EIGHT_STEPS = ["max_steps=8", "tracking.log_every=4", "tracking.ranks_every=4", "tracking.tensorboard=true"]
SLEEP_SECONDS = 0.3  # much longer than what a busy machine adds to a step of milliseconds
DOCUMENTATION = (Path(__file__).resolve().parents[2] / "docs" / "tracking.md").read_text(encoding="utf-8")


def train_with_a_slow_rank(
    ranks: Ranks, shards: Path, run_dir: Path, slow_rank: int, owner: Any, name: str, overrides: list[str]
) -> None:
    """Train while `owner.name`, a forward pass or the reading of a step, takes one rank long."""
    fast = getattr(owner, name)

    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(SLEEP_SECONDS)
        return fast(*args, **kwargs)

    few = mock.patch.object(rank_times, "MIN_STEPS", 3)  # the first step is not counted
    with few, mock.patch.object(owner, name, slow if ranks.rank == slow_rank else fast):
        train_run(ranks, shards, run_dir, *EIGHT_STEPS, *overrides)


def train_with_slow_forward_passes(ranks: Ranks, shards: Path, run_dir: Path, *overrides: str) -> None:
    train_with_a_slow_rank(ranks, shards, run_dir, 1, BertForPretraining, "forward", [*overrides])


def train_with_a_slow_reader(ranks: Ranks, shards: Path, run_dir: Path, *overrides: str) -> None:
    train_with_a_slow_rank(ranks, shards, run_dir, 0, feed, "prepare_step", [*overrides])


def named_ranks(ranks: Ranks, stretches: list[tuple[int, list[int]]]) -> list[str]:
    """Return who is named while, for so many steps each, the ranks listed are slow, and rank 1 in the first step.

    They are compared after every five steps. The one listed first is the slowest.
    """
    told: list[str] = []
    config = compose("pretrain", PretrainConfig, ["shards_dir=a", "run_dir=b"]).tracking
    config.log_every = config.ranks_every = 5
    times = RankTimes(
        config, ranks, ["host"] * 3, zero_stage=1, total_steps=10**6, tell=lambda title, text: told.append(title)
    )
    slow_now = [[1], *(slow for steps, slow in stretches for _ in range(steps))]
    for result in times.follow(made_up_step(ranks, step, slow) for step, slow in enumerate(slow_now, start=1)):
        if result.state.step % 5 == 0:
            assert set(times.compare()) >= ({"slowest_rank", "memory_gb"} if ranks.is_first else set())
    return told


def made_up_step(ranks: Ranks, step: int, slow: list[int]) -> StepResult:
    forward = 0.3 - 0.01 * slow.index(ranks.rank) if ranks.rank in slow else 0.1
    zeros = dict.fromkeys(StepSums.__dataclass_fields__, 0)
    return StepResult(
        state=RunState(step=step),
        sums=StepSums(**zeros | {"seconds": 1.0}),
        values={},
        note=None,
        stop_requested=False,
        own_times=OwnTimes(forward=100.0 if step == 1 and ranks.rank == 1 else forward),
    )


def test_a_rank_is_named_by_many_steps_the_first_left_out_and_once_until_all_are_well(worker_group):
    group = worker_group(3)
    assert group.run(named_ranks, [(MIN_STEPS - 1, [2])])[0] == [], "too few steps"
    assert group.run(named_ranks, [(5 * MIN_STEPS, [])])[0] == [], "the first step was slow"
    two = [(MIN_STEPS + 5, [2]), (MIN_STEPS, [0]), (MIN_STEPS, [2])]
    assert group.run(named_ranks, two) == [["rank 2 is slow", "rank 0 is slow"], [], []]
    again = [(MIN_STEPS + 5, [2]), (2 * MIN_STEPS, []), (2 * MIN_STEPS, [2])]
    assert group.run(named_ranks, again)[0] == ["rank 2 is slow"] * 2


def alerts(run_dir: Path) -> list[str]:
    events = EventAccumulator(str(run_dir / "tensorboard")).Reload()
    if "alerts/text_summary" not in events.Tags()["tensors"]:
        return []
    return [event.tensor_proto.string_val[0].decode() for event in events.Tensors("alerts/text_summary")]


def test_a_rank_whose_forward_passes_are_slow_is_named_once_with_its_host(worker_group, shards, tmp_path):
    run_dir = tmp_path / "run"
    profile = ["profile.steps=[2,3]", "profile.ranks=[1,2]"]
    worker_group(3).run(train_with_slow_forward_passes, shards, run_dir, *engine_overrides(1, "fp32"), *profile)
    records = read_metrics(run_dir / "metrics.jsonl")
    assert [record["step"] for record in records] == [4, 8]
    for record in records:
        assert record["slowest_rank"] == 1
        assert record["slowest_rank_seconds"] >= 2 * SLEEP_SECONDS, "it has two micro-batches in a step"
        assert record["median_rank_seconds"] <= record["slowest_rank_seconds"] - SLEEP_SECONDS
        assert record["slowest_rank_seconds"] <= record["step_seconds"]
        assert 0 < record["memory_gb"] < 100
    undocumented = {name for record in records for name in record if f"`{name}`" not in DOCUMENTATION}
    assert {name for name in undocumented if not name.startswith(("trust_ratio/", "held_out_"))} == set()
    (alert,) = alerts(run_dir)
    assert f"rank 1 on {socket.gethostname()} is slow: its forward passes take" in alert
    assert trace_names(run_dir) == {f"steps-00000002-00000003-rank-0000{rank}.json.gz" for rank in (1, 2)}


def trace_names(run_dir: Path) -> set[str]:
    """Return the traces of a run, each of which must hold the operators of a forward and a backward pass."""
    traces = list((run_dir / "profile").iterdir())
    for path in traces:
        names = {event.get("name") for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]}
        assert {"aten::linear", "autograd::engine::evaluate_function: AddmmBackward0"} <= names, sorted(map(str, names))
    return {path.name for path in traces}


def test_a_slow_reader_is_known_also_at_stage_3_where_forward_passes_tell_nothing(worker_group, shards, tmp_path):
    run_dir = tmp_path / "run"
    worker_group(2).run(train_with_a_slow_reader, shards, run_dir, *engine_overrides(3, "fp32"))
    for record in read_metrics(run_dir / "metrics.jsonl"):
        assert record["slowest_reader"] == 0
        assert record["slowest_reader_seconds"] >= SLEEP_SECONDS
        assert record["median_reader_seconds"] < SLEEP_SECONDS
        assert "slowest_rank" not in record, "every forward pass of stage 3 waits for all ranks"


def test_speed_counts_real_tokens_of_all_ranks_and_mfu_is_what_a_hand_calculation_gives(worker_group, tmp_path):
    """Sequences of six tokens, one of them masked; rank 1 has one stream of three, and so two fillers."""
    shards = write_shards(tmp_path / "shards", max_length=6)
    streams = ["data.num_streams=3", "data.global_batch_size=12", "data.micro_batch_size=2"]
    run = [*engine_overrides(1, "fp32"), "max_steps=5", "tracking.peak_tflops=0.001", *streams]
    worker_group(2).run(train_run, shards, tmp_path / "run", *run)
    hidden, intermediate, layers, vocabulary = 32, 64, 2, 64
    products_per_token = layers * (4 * hidden * hidden + 2 * hidden * intermediate)
    attention_per_sequence = layers * 2 * 6 * 6 * hidden  # scores, and their product with the values
    head_per_masked_token = hidden * hidden + hidden * vocabulary
    head_per_pair = hidden * hidden + 2 * hidden
    forward = 12 * (6 * products_per_token + attention_per_sequence + head_per_masked_token + head_per_pair)
    flops = 3 * 2 * forward  # the backward pass costs twice the forward one; a product and its sum are two operations
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [record["tokens_seen"] for record in records] == [72 * step for step in (1, 2, 3, 4, 5)]
    for record in records:
        assert record["tokens_per_second"] * record["step_seconds"] == pytest.approx(72)
        assert record["sequences_per_second"] * record["step_seconds"] == pytest.approx(12)
        assert record["token_efficiency"] == pytest.approx(72 / (72 + 2 * 6))
        assert record["mfu"] * 0.001e12 * 2 * record["step_seconds"] == pytest.approx(flops)
