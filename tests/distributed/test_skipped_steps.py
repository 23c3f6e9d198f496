"""A step without a finite loss and gradient changes nothing, is counted, and so many in a row end the run."""

import re
from pathlib import Path
from unittest import mock

import pytest
import torch

import pretrain.step
from data_prep.show import main as show
from pretrain.checkpoint.save import list_tags
from pretrain.distributed import Ranks
from pretrain.engine import Engine
from pretrain.objective import BatchLosses
from pretrain.phases import RunState
from pretrain.step import PhaseData, Training, run_steps
from pretrain.stop import StopRequest
from pretrain.track.metrics_file import read_metrics
from tests.distributed.runs import STAGES, engine_overrides, full_weights, tiny_config, tiny_engine, train_run
from tests.shards import order_and_reader

POISONED = (3, 4)
KINDS = ("loss", "gradient", "loss alone")


class Poison:
    """Stands in for `loss_sums`: on rank 1, at some steps (from 1), the second micro-batch goes wrong."""

    def __init__(self, ranks: Ranks, kind: str, steps: tuple[int, ...]):
        self.ranks, self.kind, self.steps = ranks, kind, steps
        self.calls = 0
        self.genuine = pretrain.step.loss_sums

    def __call__(self, logits, batch) -> BatchLosses:
        step, micro_step = divmod(self.calls, 3)  # six streams on two ranks
        self.calls += 1
        sums = self.genuine(logits, batch)
        if self.ranks.rank != 1 or step + 1 not in self.steps or micro_step != 1:
            return sums
        if self.kind == "loss":
            return sums._replace(mlm_loss=sums.mlm_loss * torch.nan)
        if self.kind == "loss alone":
            return sums._replace(mlm_loss=sums.mlm_loss + torch.inf)
        sums.mlm_loss.register_hook(lambda gradient: gradient * torch.inf)
        return sums


def optimizer_steps(engine: Engine) -> set[float]:
    return {float(state["step"]) for state in engine.optimizer.state.values()}


def follow_weights(ranks: Ranks, shards: Path, overrides: list[str], kind: str):
    """Return, per step, whether the weights moved, the norm, the count of skips; and the updates the moments saw."""
    config = tiny_config(shards, shards, *overrides)
    engine = tiny_engine(config, ranks)
    order, reader = order_and_reader(shards)
    training = Training(
        engine=engine,
        phases=[PhaseData(config=config.phases[0], order=order, reader=reader)],
        ranks=ranks,
        stop=StopRequest(),
        seed=3,
        max_bad_steps=3,
        checkpoints=shards,
    )
    seen = []
    before = full_weights(engine, ranks)
    with mock.patch.object(pretrain.step, "loss_sums", Poison(ranks, kind, POISONED)):
        for result in run_steps(training, state=RunState(), last_step=7):
            after = full_weights(engine, ranks)
            moved = any(not torch.equal(before[name], after[name]) for name in after)
            seen.append((moved, float(result.values["grad_norm"] or 0), result.state, result.note))
            before = after
    return seen, optimizer_steps(engine), all(bool(weight.isfinite().all()) for weight in before.values())


ENGINES = [
    *((*pair, False, "lamb") for pair in STAGES),
    *((*pair, True, "lamb") for pair in ((1, "fp32"), (2, "bf16"), (3, "bf16"))),
    *((*pair, False, "adamw") for pair in ((0, "fp32"), (1, "bf16"), (2, "bf16"), (3, "fp32"))),
]
ALWAYS = [
    (0, "fp32", False, "lamb"),
    (1, "bf16", False, "lamb"),
    (2, "bf16", False, "adamw"),
    (2, "bf16", True, "lamb"),
    (3, "fp32", False, "lamb"),
]


@pytest.mark.parametrize(
    ("stage", "precision", "offload", "optimizer"),
    [pytest.param(*case, marks=() if case in ALWAYS else pytest.mark.slow) for case in ENGINES],
)
def test_a_bad_step_changes_nothing_and_the_next_good_one_goes_on(
    worker_group, shards, stage, precision, offload, optimizer
):
    overrides = [*engine_overrides(stage, precision, offload=offload), f"optimizer={optimizer}"]
    for kind in KINDS:
        for seen, updates, finite in worker_group(2).run(follow_weights, shards, overrides, kind):
            assert [moved for moved, *_ in seen] == [True, True, False, False, True, True, True], kind
            assert [state.skipped_steps for *_, state, _ in seen] == [0, 0, 1, 2, 2, 2, 2]
            assert [state.bad_steps_in_a_row for *_, state, _ in seen] == [0, 0, 1, 2, 0, 0, 0]
            assert [note is not None for *_, note in seen] == [False, False, True, True, False, False, False]
            assert all(norm < 1e3 for step, (_, norm, *_) in enumerate(seen, start=1) if step not in POISONED)
            assert updates == {5.0}
            assert finite


def train_into_nan(ranks: Ranks, shards: Path, run_dir: Path, *overrides: str):
    with mock.patch.object(pretrain.step, "loss_sums", Poison(ranks, "loss", tuple(range(5, 20)))):
        try:
            train_run(ranks, shards, run_dir, *overrides)
        except ValueError as error:
            return type(error).__name__, str(error)
    return "returned", ""


def test_too_many_bad_steps_end_the_run_with_the_step_the_places_and_the_last_good_checkpoint(
    worker_group, shards, tmp_path, capsys
):
    run_dir = tmp_path / "run"
    overrides = [*engine_overrides(2, "bf16"), "max_bad_steps=3", "checkpoint.save_every=2"]
    (kind, message), (elsewhere, same) = worker_group(2).run(train_into_nan, shards, run_dir, *overrides)
    assert (kind, elsewhere) == ("ValueError", "FailureElsewhereError")
    assert message == same
    assert "step 7 was the last of 3 in a row without a finite loss and gradient" in message
    assert f"the last good checkpoint is {run_dir / 'checkpoints' / 'step-00000004'}" in message
    assert list_tags(run_dir / "checkpoints") == ["step-00000002", "step-00000004"]
    assert [line["skipped_steps"] for line in read_metrics(run_dir / "metrics.jsonl")] == [0, 0, 0, 0, 1, 2]
    # Rank 1 has streams 1, 3 and 5; its second micro-batch is the two rows that stream 3 gives to the step.
    places = re.search(r"It was reading (\S+), (\S+): see", message)
    assert places
    order, reader = order_and_reader(shards, seed=0)
    assert list(places.groups()) == pretrain.step.places_of(order, reader, stream=3, step=6)
    assert show([str(shards), "--at", places[1], "--instances", "1"]) == 0
    assert places[1] in capsys.readouterr().out
