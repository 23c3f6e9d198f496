import pytest
import torch

from pretrain.config import Kernels
from pretrain.model.bert import BertForPretraining
from pretrain.model.memory import activation_bytes, kept_activations, state_bytes
from pretrain.model_config import ModelConfig
from pretrain.objective import loss_sums, normalised_loss
from tests.models import ALBERT, ROBERTA, random_batch, tiny_config
from tests.unit.pretrain.test_activation_checkpointing import LiveBytes

DROPOUT = {"hidden_dropout_prob": 0.1}  # that of attention would keep the scores on a CPU, where no kernel is fused
MODELS = pytest.mark.parametrize(
    "changes", [{}, DROPOUT, ROBERTA, ALBERT], ids=["plain", "dropout", "roberta", "albert"]
)


def wide_config(**changes: object) -> ModelConfig:
    sizes = {"vocab_size": 500, "hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4}
    return tiny_config(**{**sizes, "num_hidden_layers": 4, "max_position_embeddings": 48, **changes})


def training_model(config: ModelConfig, *, activation_checkpointing: bool = False) -> BertForPretraining:
    return BertForPretraining(
        config, Kernels.torch, with_pairs=False, activation_checkpointing=activation_checkpointing
    ).train()


@MODELS
def test_kept_activations_are_those_that_autograd_saves(changes):
    config = wide_config(**changes)
    model, batch = training_model(config), random_batch([48] * 8, config)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(batch)
        loss_sums(logits, batch)
    keep(logits.mlm_logits)  # for as long as the caller holds them
    measured = sum(tensor.untyped_storage().nbytes() for address, tensor in saved.items() if address not in own)
    kept = kept_activations(
        config,
        tokens=384,
        masked_tokens=len(batch.masked_positions),
        activation_checkpointing=False,
        element_bytes=4,
    )
    assert sum(kept) == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize("activation_checkpointing", [False, True])
@pytest.mark.parametrize("vocab_size", [61, 4000])
@pytest.mark.parametrize("changes", [DROPOUT, ALBERT], ids=["bert", "albert"])
def test_the_peak_is_near_that_of_all_tensors_alive(changes, vocab_size, activation_checkpointing):
    config = wide_config(num_hidden_layers=6, vocab_size=vocab_size, **changes)
    model = training_model(config, activation_checkpointing=activation_checkpointing)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    batch = random_batch([48] * 24, config)
    masked = len(batch.masked_positions)
    with LiveBytes() as live:
        normalised_loss(loss_sums(model(batch), batch), masked_tokens=masked, pairs=0).backward()
    estimate = activation_bytes(
        config,
        tokens=24 * 48,
        masked_tokens=masked,
        activation_checkpointing=activation_checkpointing,
        element_bytes=4,
    )
    assert 0.9 < estimate / live.peak < 1.3


def test_state_by_hand_and_in_the_zero_papers_units():
    assert state_bytes(10, zero_stage=0, num_gpus=4) == (20, 60, 120, 40)
    assert state_bytes(10, zero_stage=1, num_gpus=4) == (20, 60, 36, 40)
    assert state_bytes(10, zero_stage=2, num_gpus=4) == (20, 12, 36, 1_000_000_040)
    assert state_bytes(10, zero_stage=3, num_gpus=4) == (26, 12, 36, 2_000_000_000)
    # Of a model larger than every buffer, nothing but a share is left at stage 3 as GPUs grow in number.
    assert sum(state_bytes(7_500_000_000, zero_stage=3, num_gpus=10_000)) < 4.1e9
