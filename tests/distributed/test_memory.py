"""What `pretrain.model.memory` says that a GPU holds besides activations is what DeepSpeed's engine holds."""

import gc
from pathlib import Path

import pytest
import torch

from pretrain.distributed import Ranks
from pretrain.model.memory import state_bytes
from pretrain.step import accumulate_gradients
from tests.distributed.runs import engine_overrides, tiny_config, tiny_engine
from tests.distributed.test_lamb import LEARNING_RATE, step_feed

LARGER = ["model.hidden_size=128", "model.intermediate_size=512"]


def live_storages() -> dict[int, int]:
    """Return the bytes of every tensor's memory that Python still holds, by address."""
    gc.collect()
    tensors = (item for item in gc.get_objects() if issubclass(type(item), torch.Tensor))
    return {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}


def bytes_before_the_second_update(ranks: Ranks, shards: Path, overrides: list[str]) -> tuple[int, int]:
    """Return the bytes that the engine holds when all gradients are there, and the model's parameters."""
    config = tiny_config(shards, shards, *LARGER, *overrides)
    before = live_storages()
    engine = tiny_engine(config, ranks)
    for step, batches in enumerate(step_feed(ranks, shards, config)):
        accumulate_gradients(engine, batches, ranks.device, seed=3, phase=0, step=step)
        if step == 1:
            break
        engine.step(LEARNING_RATE)
    del batches
    held = sum(size for address, size in live_storages().items() if address not in before)
    return held, sum(shape.numel() for shape in engine.layout.shapes.values())


@pytest.mark.parametrize("stage", [1, *(pytest.param(stage, marks=pytest.mark.slow) for stage in (2, 3))])
def test_weights_gradients_and_optimizer_take_what_the_arithmetic_says(worker_group, shards, stage):
    """Between two passes DeepSpeed keeps no buffer but stage 3's, and has nothing gathered there."""
    overrides = engine_overrides(stage, "bf16")
    for held, parameters in worker_group(2).run(bytes_before_the_second_update, shards, overrides):
        expected = state_bytes(parameters, zero_stage=stage, num_gpus=2)
        gathered, buffers = (2 * parameters, expected.buffers) if stage == 3 else (0, 0)
        kept = expected.weights - gathered + expected.gradients + expected.optimizer
        assert held - buffers == pytest.approx(kept, rel=0.01)
