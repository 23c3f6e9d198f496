"""The GPU memory that a model's training takes, by arithmetic: what ZeRO keeps of it, and what a micro-batch adds."""

from typing import NamedTuple

from pretrain.model_config import ModelConfig

REDUCE_BUCKET = 500_000_000
"""Elements of gradients that DeepSpeed 0.19.8 reduces at a time (`reduce_bucket_size`)."""

LIVE_PARAMETERS = 1_000_000_000
"""Elements that its stage 3 keeps gathered (`stage3_max_live_parameters`, `stage3_max_reuse_distance`)."""


class StateBytes(NamedTuple):
    """What one GPU holds through a step besides activations, in bytes."""

    weights: int
    gradients: int
    optimizer: int
    buffers: int


def state_bytes(parameters: int, *, zero_stage: int, num_gpus: int) -> StateBytes:
    """Return what one of `num_gpus` GPUs holds of a model with this many parameters, in bf16 with LAMB or AdamW.

    Rajbhandari et al. 2020 (arXiv:1910.02054), section 3, with the numbers of DeepSpeed 0.19.8 as `deepspeed_config`
    sets it up. With P parameters and N GPUs:

        stage  weights                     gradients  optimizer  buffers
        0      2 P                         6 P        12 P       4 min(P, bucket)
        1      2 P                         6 P        12 P / N   4 min(P, bucket)
        2      2 P                         4 P / N    12 P / N   2 bucket + 4 min(P, bucket)
        3      2 P / N + 2 min(P, 10^9)    4 P / N    12 P / N   4 bucket

    Gradients are bf16 and, where they are accumulated or updated with, fp32; the optimizer has fp32 weights and two
    fp32 moments; buffers take what is on its way to other ranks. Under stage 3 the gathered weights of models of up to
    10^9 parameters stay for the whole step, so it saves nothing over stage 2 there but buffers, from 2.5 10^8 on.
    """
    own = -(-parameters // num_gpus)
    on_its_way = 4 * min(parameters, REDUCE_BUCKET)
    if zero_stage <= 1:
        updated = own if zero_stage == 1 else parameters
        return StateBytes(2 * parameters, 6 * parameters, 12 * updated, on_its_way)
    if zero_stage == 2:
        return StateBytes(2 * parameters, 4 * own, 12 * own, 2 * REDUCE_BUCKET + on_its_way)
    gathered = 2 * min(parameters, LIVE_PARAMETERS)
    return StateBytes(2 * own + gathered, 4 * own, 12 * own, 4 * REDUCE_BUCKET)


class ActivationBytes(NamedTuple):
    """What a forward pass keeps for its backward pass, in bytes."""

    body: int  # embeddings and layers
    head: int  # of masked tokens


def kept_activations(
    model: ModelConfig, *, tokens: int, masked_tokens: int, activation_checkpointing: bool, element_bytes: int = 2
) -> ActivationBytes:
    """Return what a micro-batch of so many real tokens keeps; `element_bytes` of an activation is 2 in bf16.

    Korthikanti et al. 2022 (arXiv:2205.05198), section 4.1, without attention scores, which fused attention never
    keeps, and with the heads at masked tokens only. In elements, h = hidden_size, f = intermediate_size, e the width
    of embeddings, V = vocab_size:

        8 h + 2 f      per token and layer: Q, K, V, attended; sum and norm twice; both sides of the GELU
        h + e          per token: the layers' input, the embeddings' sum; e more where they are projected
        h + 3 e + V    per masked token: the head's input, both sides of its GELU, its norm, the logits

    and besides 4 V bytes per masked token (fp32 log-probabilities), 4 bytes per token, layer and head (fp32
    normalisers of the attention), and 1 byte per element that dropout may zero: 2 h per token and layer, e per token.
    With activation checkpointing a layer keeps its input alone: h per token.
    """
    assert model.vocab_size is not None
    hidden, width = model.hidden_size, model.embedding_width
    layer = element_bytes * hidden if activation_checkpointing else _layer_bytes(model, element_bytes)
    embedded = element_bytes * (hidden + width + (width if model.traits.factorises_embeddings else 0))
    embedded += _mask_bytes(model, width)
    head = element_bytes * (hidden + 3 * width + model.vocab_size) + 4 * model.vocab_size
    return ActivationBytes(tokens * (model.num_hidden_layers * layer + embedded), masked_tokens * head)


def activation_bytes(
    model: ModelConfig, *, tokens: int, masked_tokens: int, activation_checkpointing: bool, element_bytes: int = 2
) -> int:
    """Return the most that a micro-batch takes at any moment of its forward and backward pass.

    What embeddings and layers keep, and the greater of two that come and go: the head with the fp32 gradients of its
    logits, 8 V bytes per masked token, when the backward pass begins; later the gradients inside one layer, 2 h + 2 f
    elements per token, and with activation checkpointing that layer's own activations.
    """
    assert model.vocab_size is not None
    kept = kept_activations(
        model,
        tokens=tokens,
        masked_tokens=masked_tokens,
        activation_checkpointing=activation_checkpointing,
        element_bytes=element_bytes,
    )
    inside_layer = element_bytes * (2 * model.hidden_size + 2 * model.intermediate_size)
    if activation_checkpointing:
        inside_layer += _layer_bytes(model, element_bytes)
    return kept.body + max(kept.head + 8 * model.vocab_size * masked_tokens, inside_layer * tokens)


def _layer_bytes(model: ModelConfig, element_bytes: int) -> int:
    hidden = model.hidden_size
    kept = element_bytes * (8 * hidden + 2 * model.intermediate_size)
    return kept + 4 * model.num_attention_heads + 2 * _mask_bytes(model, hidden)


def _mask_bytes(model: ModelConfig, width: int) -> int:
    return width if model.hidden_dropout_prob > 0 else 0
