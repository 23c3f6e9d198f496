"""Layers computed twice: the same numbers to the last bit, for less memory."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pretrain.config import Kernels
from pretrain.data.batch import MicroBatch
from pretrain.model.bert import BertForPretraining
from pretrain.model_config import ModelConfig
from tests.models import ALBERT, random_batch, tiny_config

CONFIG = tiny_config(
    num_hidden_layers=6,
    hidden_size=32,
    intermediate_size=128,
    hidden_dropout_prob=0.2,
    attention_probs_dropout_prob=0.2,
)


def model_of(dtype: torch.dtype, *, activation_checkpointing: bool, config: ModelConfig = CONFIG) -> BertForPretraining:
    torch.manual_seed(0)
    model = BertForPretraining(
        config, Kernels.torch, with_pairs=True, activation_checkpointing=activation_checkpointing
    )
    return model.to(dtype).train()


def loss_of(model: BertForPretraining, batch: MicroBatch) -> torch.Tensor:
    logits = model(batch)
    assert logits.nsp_logits is not None
    assert batch.next_sentence_labels is not None
    return F.cross_entropy(logits.mlm_logits, batch.masked_lm_ids) + F.cross_entropy(
        logits.nsp_logits, batch.next_sentence_labels
    )


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, **ALBERT)], ids=["own layers", "shared layers"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_gradients_and_the_next_draw_are_equal_to_the_last_bit_with_dropout(dtype, config):
    results = []
    for activation_checkpointing in (False, True):
        model = model_of(dtype, activation_checkpointing=activation_checkpointing, config=config)
        torch.manual_seed(7)
        losses = []
        for seed in (1, 2):  # the second micro-batch draws on from where the first one left the generator
            loss = loss_of(model, random_batch([20, 24, 9, 3], CONFIG, seed=seed))
            loss.backward()
            losses.append(loss.detach())
        results.append([*losses, *(parameter.grad for parameter in model.parameters()), torch.rand(3)])
    for plain, twice in zip(*results, strict=True):
        assert torch.equal(plain, twice)
    assert len(results[0]) == 3 + len(list(model.parameters()))


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that operators have made and something still holds."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._storages: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self._storages[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._storages = {key: held for key, held in self._storages.items() if not held[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._storages.values()))
        return result


def peak_bytes(*, activation_checkpointing: bool, training: bool = True) -> int:
    model = model_of(torch.float32, activation_checkpointing=activation_checkpointing).train(training)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    batch = random_batch([24] * 16, CONFIG)
    with LiveBytes() as live:
        loss_of(model, batch).backward()
    return live.peak


def test_the_peak_of_activations_falls_to_one_layer_and_the_inputs_of_the_others():
    plain, twice = peak_bytes(activation_checkpointing=False), peak_bytes(activation_checkpointing=True)
    assert twice < plain / 3


def test_evaluation_is_left_as_it_is():
    assert peak_bytes(activation_checkpointing=True, training=False) == peak_bytes(
        activation_checkpointing=False, training=False
    )
