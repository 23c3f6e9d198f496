"""fp16: DeepSpeed's dynamic loss scale finds its way, skips what overflows, and survives a resume."""

from pathlib import Path
from unittest import mock

import pytest
import torch

import pretrain.step
from pretrain.distributed import Ranks
from tests.distributed.runs import (
    cpu_multiplies_fp16,
    engine_overrides,
    lines,
    tiny_config,
    tiny_engine,
    train_in_fp16,
    train_run,
)

STAGES_AND_OFFLOAD = [
    pytest.param(stage, offload, marks=() if (stage, offload) == (2, True) else pytest.mark.slow)
    for stage in (1, 2, 3)
    for offload in (False, True)
]
TOO_HIGH = "engine.initial_loss_scale_power=22"


@pytest.mark.parametrize(("stage", "offload"), STAGES_AND_OFFLOAD)
def test_fp16_follows_fp32_finds_its_scale_and_resumes_with_it(worker_group, shards, tmp_path, stage, offload):
    group = worker_group(2)
    fp32 = engine_overrides(stage, "fp32", offload=offload)
    fp16 = engine_overrides(stage, "fp16", offload=offload)
    group.run(train_run, shards, tmp_path / "fp32", *fp32, "max_steps=12")
    group.run(train_in_fp16, shards, tmp_path / "fp16", *fp16, "max_steps=12")
    exact, close = ([loss for (loss,) in lines(tmp_path / name, ("loss",))] for name in ("fp32", "fp16"))
    assert close == pytest.approx(exact, rel=3e-3)
    group.run(train_in_fp16, shards, tmp_path / "whole", *fp16, TOO_HIGH)
    seen = lines(tmp_path / "whole", ("skipped_steps", "loss_scale"))
    assert seen[0] == (1, 2**22)
    assert seen[-1][0] in range(3, 12), "the scale is found within a few skipped steps, and then steps are taken"
    assert seen[-1][1] < 2**20
    for stop in (2, 9):
        group.run(train_in_fp16, shards, tmp_path / "cut", *fp16, TOO_HIGH, f"stop_after={stop}")
    group.run(train_in_fp16, shards, tmp_path / "cut", *fp16, TOO_HIGH)
    keys = ("step", "loss", "grad_norm", "skipped_steps", "loss_scale", "sequence_hash")
    assert lines(tmp_path / "cut", keys) == lines(tmp_path / "whole", keys)


def test_the_loss_scale_outlives_a_stretch_in_another_precision(worker_group, shards, tmp_path):
    for precision, stop in (("fp16", 6), ("bf16", 8), ("fp16", 9)):
        overrides = [*engine_overrides(2, precision), TOO_HIGH, f"stop_after={stop}"]
        worker_group(2).run(train_in_fp16, shards, tmp_path / "run", *overrides)
    scales = [scale for (scale,) in lines(tmp_path / "run", ("loss_scale",))]
    assert scales[6:8] == [None, None]
    assert scales[8] == scales[5] < 2**22


def overflow_for_ever(ranks: Ranks, shards: Path, run_dir: Path) -> tuple[str, str]:
    """Train on gradients that are infinite at any loss scale, from the smallest one on."""
    genuine = pretrain.step.loss_sums

    def poisoned(logits, batch):
        sums = genuine(logits, batch)
        sums.mlm_loss.register_hook(lambda gradient: gradient * torch.inf)
        return sums

    with mock.patch.object(pretrain.step, "loss_sums", poisoned):
        try:
            train_in_fp16(ranks, shards, run_dir, *engine_overrides(2, "fp16"), "engine.initial_loss_scale_power=0")
        except ValueError as error:
            return type(error).__name__, str(error)
    return "returned", ""


def test_gradients_that_overflow_at_the_smallest_scale_end_the_run_like_bad_steps(worker_group, shards, tmp_path):
    (kind, message), (elsewhere, same) = worker_group(2).run(overflow_for_ever, shards, tmp_path / "run")
    assert (kind, elsewhere) == ("ValueError", "FailureElsewhereError")
    assert message == same
    assert "in a row without a finite loss and gradient" in message
    assert "no checkpoint was saved before. It was reading train-" in message


def build_in_fp16(ranks: Ranks, shards: Path) -> str:
    try:
        tiny_engine(tiny_config(shards, shards, *engine_overrides(2, "fp16")), ranks)
    except ValueError as error:
        return str(error)
    return "built"


def test_a_cpu_without_fp16_products_is_named(worker_group, shards):
    said = worker_group(1).run(build_in_fp16, shards)[0]
    if cpu_multiplies_fp16():
        assert said == "built"
    else:
        assert said.startswith("engine.precision='fp16' is not valid: this cpu cannot compute in it")
        assert "avx512_fp16" in said
