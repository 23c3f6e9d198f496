"""Small models of every architecture, their transformers twins, and random flat batches."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForPreTraining

from pretrain.config import Kernels
from pretrain.data.batch import MicroBatch
from pretrain.model.bert import BertForPretraining
from pretrain.model.hf_weights import to_huggingface, to_huggingface_config
from pretrain.model_config import Architecture, ModelConfig


def tiny_config(**changes: Any) -> ModelConfig:
    """Return a BERT of one layer and 16 hidden units, without dropout, with `changes`."""
    settings: dict[str, Any] = {
        "architecture": Architecture.bert,
        "vocab_size": 61,
        "embedding_size": None,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 24,
        "type_vocab_size": 2,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.3,  # large, so that a wrong wire shows in the logits
    }
    return ModelConfig(**(settings | changes))


ALBERT = {"architecture": Architecture.albert, "embedding_size": 6}
ROBERTA = {"architecture": Architecture.roberta, "type_vocab_size": 1}
"""Changes of `tiny_config` that make it another architecture."""


def build_model(config: ModelConfig, *, seed: int = 0, with_pairs: bool = True) -> BertForPretraining:
    """Return our model with every parameter drawn from a normal, biases and norms too: zeros and ones hide mistakes."""
    torch.manual_seed(seed)
    model = BertForPretraining(config, Kernels.torch, with_pairs=with_pairs)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm.weight" in name else 0.0, config.initializer_range)
    return model


def empty_twin(config: ModelConfig, *, with_pairs: bool = True, pad_token_id: int = 0) -> Any:
    """Return the transformers model that `config` is of, with weights of its own, in eval mode."""
    auto_class = AutoModelForPreTraining if with_pairs else AutoModelForMaskedLM
    return auto_class.from_config(AutoConfig.for_model(**to_huggingface_config(config, pad_token_id))).eval()


def huggingface_twin(model: BertForPretraining, config: ModelConfig, *, pad_token_id: int = 0) -> Any:
    """Return the transformers model with the same weights, in eval mode."""
    twin = empty_twin(config, with_pairs=model.pooler is not None, pad_token_id=pad_token_id)
    twin.load_state_dict(to_huggingface(model.state_dict(), config.architecture, pad_token_id))
    return twin


def random_batch(
    lengths: Sequence[int], config: ModelConfig, *, seed: int = 0, pad_token_id: int | None = None
) -> MicroBatch:
    """Return a flat batch of instances of these lengths; about every fourth token is masked, at least one.

    No token is padding when `pad_token_id` is given: RoBERTa counts its positions over the others.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.tensor(lengths)
    tokens = int(sizes.sum())
    assert config.vocab_size is not None
    positions = torch.cat([torch.arange(length) for length in lengths])
    masked = torch.randperm(tokens, generator=generator)[: max(1, tokens // 4)].sort().values
    input_ids = torch.randint(config.vocab_size, (tokens,), generator=generator)
    if pad_token_id is not None:
        input_ids[input_ids == pad_token_id] = (pad_token_id + 1) % config.vocab_size
    return MicroBatch(
        input_ids=input_ids,
        token_type_ids=torch.randint(config.type_vocab_size, (tokens,), generator=generator),
        position_ids=positions,
        cu_seqlens=torch.cat([torch.zeros(1), sizes.cumsum(0)]).int(),
        instance_lengths=tuple(lengths),
        masked_positions=masked,
        masked_lm_ids=torch.randint(config.vocab_size, (len(masked),), generator=generator),
        next_sentence_labels=torch.randint(2, (len(lengths),), generator=generator),
    )


def pad(batch: MicroBatch, *, pad_token_id: int = 0) -> dict[str, Tensor]:
    """Return transformers' arguments, int64 [instances, longest], for the same instances."""

    def rows(flat: Tensor, padding: int = 0) -> Tensor:
        instances = flat.split(list(batch.instance_lengths))
        return torch.nn.utils.rnn.pad_sequence(instances, batch_first=True, padding_value=padding)

    return {
        "input_ids": rows(batch.input_ids, pad_token_id),
        "token_type_ids": rows(batch.token_type_ids),
        "attention_mask": rows(torch.ones_like(batch.input_ids)),
    }
