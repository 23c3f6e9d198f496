"""What a step must not do: make the host wait for the device in every micro-step."""

from pathlib import Path
from unittest import mock

import pytest

from pretrain.distributed import Ranks
from tests.distributed.runs import engine_overrides, train_run


def count_synchronisations(ranks: Ranks, shards: Path, run_dir: Path, overrides: list[str]) -> int:
    from deepspeed.accelerator import get_accelerator

    with mock.patch.object(type(get_accelerator()), "synchronize") as synchronize:
        train_run(ranks, shards, run_dir, *overrides, "max_steps=6", "checkpoint.save_every=100")
    return synchronize.call_count


@pytest.mark.parametrize(("stage", "precision"), [(0, "fp32"), (1, "bf16")])
def test_deepspeed_does_not_synchronise_the_device_for_its_timers(worker_group, shards, tmp_path, stage, precision):
    """Its throughput timer is on by default and does so twice in each micro-step from the third step on."""
    overrides = engine_overrides(stage, precision)
    assert worker_group(2).run(count_synchronisations, shards, tmp_path / "run", overrides) == [0, 0]
