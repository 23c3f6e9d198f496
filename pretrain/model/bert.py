"""BERT with its pretraining heads, on flat batches: no padding anywhere but in attention, which the plan handles.

Post-norm and dropout where Devlin et al. 2019 and `transformers.BertForPreTraining` have them; the heads run only at
masked positions and at `[CLS]`. What RoBERTa and ALBERT change is in `pretrain.model_config.TRAITS`.
"""

from collections.abc import Collection
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pretrain.config import Kernels
from pretrain.data.batch import MicroBatch
from pretrain.model.attention import AttentionPlan, attention, plan_attention
from pretrain.model.kernels import Linear, dropout, embedding, layer_norm, linear
from pretrain.model_config import ModelConfig


class PretrainingLogits(NamedTuple):
    """Scores, and hidden states that were asked for, in the dtype of the activations (fp32 on a CPU)."""

    mlm_logits: Tensor  # [masked, vocab_size]
    nsp_logits: Tensor | None  # [instances, 2]; None without pairs
    hidden_states: tuple[Tensor, ...] | None = None  # [tokens, hidden] of each of `kept_layers`; None without any


class BertForPretraining(nn.Module):
    """The encoder and its heads, of any architecture; without pairs there is neither pooler nor next-sentence head.

    With activation checkpointing, training keeps the input of each layer only, and the backward pass computes the
    layer again with the same random numbers: the same loss and gradients to the last bit, for less memory.
    `kept_layers`, counted from 1, are those whose output is returned, in ascending order.
    """

    def __init__(
        self,
        config: ModelConfig,
        kernels: Kernels,
        *,
        with_pairs: bool,
        activation_checkpointing: bool = False,
        kept_layers: Collection[int] = (),
    ) -> None:
        super().__init__()
        self.kept_layers = frozenset(kept_layers)
        self.activation_checkpointing = activation_checkpointing
        self.max_position_embeddings = config.max_position_embeddings
        self.num_hidden_layers = config.num_hidden_layers
        self.embeddings = Embeddings(config, kernels)
        self.layers = nn.ModuleList(EncoderLayer(config, kernels) for _ in range(config.num_own_layers))
        self.mlm_head = MaskedLmHead(config, kernels)
        self.pooler = Linear(config.hidden_size, config.hidden_size) if with_pairs else None
        self.nsp_head = Linear(config.hidden_size, 2) if with_pairs else None
        self.apply(lambda module: initialize(module, config.initializer_range))

    def forward(self, batch: MicroBatch) -> PretrainingLogits:
        """Return the scores of one micro-batch. Raises ValueError when an instance is longer than the positions."""
        longest = max(batch.instance_lengths)
        if longest > self.max_position_embeddings:
            raise ValueError(
                f"model.max_position_embeddings={self.max_position_embeddings} is not valid: "
                f"the batch has an instance of {longest} tokens"
            )
        hidden = self.embeddings(batch)
        plan = plan_attention(batch.instance_lengths, batch.cu_seqlens, hidden.dtype)
        kept = []
        for number in range(self.num_hidden_layers):
            layer = self.layers[number % len(self.layers)]
            if self.activation_checkpointing and self.training:
                hidden = checkpoint(layer, hidden, plan, use_reentrant=False)
            else:
                hidden = layer(hidden, plan)
            if number + 1 in self.kept_layers:
                kept.append(hidden)
        states = tuple(kept) or None
        masked = hidden.index_select(0, batch.masked_positions)
        mlm_logits = self.mlm_head(masked, self.embeddings.word_embeddings.weight)
        if self.pooler is None or self.nsp_head is None:
            return PretrainingLogits(mlm_logits, None, states)
        first = hidden.index_select(0, batch.cu_seqlens[:-1])
        return PretrainingLogits(mlm_logits, self.nsp_head(torch.tanh(self.pooler(first))), states)


class Embeddings(nn.Module):
    """Word, token type and position embeddings, summed and normalised; ALBERT's are then projected."""

    def __init__(self, config: ModelConfig, kernels: Kernels) -> None:
        super().__init__()
        width = config.embedding_width
        self.word_embeddings = nn.Embedding(_vocab_size(config), width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.layer_norm = layer_norm(width, config.layer_norm_eps, kernels)
        self.projection = Linear(width, config.hidden_size) if config.traits.factorises_embeddings else nn.Identity()
        self.dropout_prob = config.hidden_dropout_prob

    def forward(self, batch: MicroBatch) -> Tensor:
        """Return [tokens, hidden]."""
        words = embedding(batch.input_ids, self.word_embeddings.weight)
        types = embedding(batch.token_type_ids, self.token_type_embeddings.weight)
        positions = embedding(batch.position_ids, self.position_embeddings.weight)
        summed = dropout(self.layer_norm(words + types + positions), self.dropout_prob, self.training)
        projected: Tensor = self.projection(summed)
        return projected


class SelfAttention(nn.Module):
    """Multi-head attention; query, key and value keep their own parameters, hence their own LAMB trust ratios."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.heads = (config.num_attention_heads, hidden // config.num_attention_heads)
        self.query = Linear(hidden, hidden)
        self.key = Linear(hidden, hidden)
        self.value = Linear(hidden, hidden)
        self.output = Linear(hidden, hidden)
        self.dropout_prob = config.attention_probs_dropout_prob

    def forward(self, hidden: Tensor, plan: AttentionPlan) -> Tensor:
        """Return [tokens, hidden] for [tokens, hidden]."""
        query, key, value = (project(hidden).unflatten(1, self.heads) for project in (self.query, self.key, self.value))
        dropout_prob = self.dropout_prob if self.training else 0.0
        attended: Tensor = self.output(attention(query, key, value, plan, dropout_prob).flatten(1))
        return attended


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each dropped out, added to its input and normalised."""

    def __init__(self, config: ModelConfig, kernels: Kernels) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = layer_norm(config.hidden_size, config.layer_norm_eps, kernels)
        self.intermediate = Linear(config.hidden_size, config.intermediate_size)
        self.output = Linear(config.intermediate_size, config.hidden_size)
        self.output_norm = layer_norm(config.hidden_size, config.layer_norm_eps, kernels)
        self.gelu = config.traits.gelu
        self.dropout_prob = config.hidden_dropout_prob

    def forward(self, hidden: Tensor, plan: AttentionPlan) -> Tensor:
        """Return [tokens, hidden] for [tokens, hidden]."""
        attended = dropout(self.attention(hidden, plan), self.dropout_prob, self.training)
        hidden = self.attention_norm(hidden + attended)
        fed_forward = self.output(F.gelu(self.intermediate(hidden), approximate=self.gelu))
        normalised: Tensor = self.output_norm(hidden + dropout(fed_forward, self.dropout_prob, self.training))
        return normalised


class MaskedLmHead(nn.Module):
    """Transform, then scores over the vocabulary against the word embeddings, which the caller hands in: they are one
    parameter, owned by the embeddings.
    """

    def __init__(self, config: ModelConfig, kernels: Kernels) -> None:
        super().__init__()
        width = config.embedding_width
        self.transform = Linear(config.hidden_size, width)
        self.layer_norm = layer_norm(width, config.layer_norm_eps, kernels)
        self.bias = nn.Parameter(torch.zeros(_vocab_size(config)))
        self.gelu = config.traits.gelu

    def forward(self, hidden: Tensor, word_embeddings: Tensor) -> Tensor:
        """Return [masked, vocab_size] for [masked, hidden] and [vocab_size, embedding_width]."""
        transformed = F.gelu(self.transform(hidden), approximate=self.gelu)
        return linear(self.layer_norm(transformed), word_embeddings, self.bias)


def _vocab_size(config: ModelConfig) -> int:
    if config.vocab_size is None:
        raise ValueError("model.vocab_size=None is not valid: give the number of ids of the shards' tokenizer")
    return config.vocab_size


def initialize(module: nn.Module, initializer_range: float) -> None:
    """Draw weights as google-research/bert does: normal, cut off at two standard deviations; biases are zero.

    transformers draws from the normal without the cut. Norms start at weight 1 and bias 0 by themselves.
    """
    if isinstance(module, nn.Linear | nn.Embedding):
        limit = 2 * initializer_range
        nn.init.trunc_normal_(module.weight, std=initializer_range, a=-limit, b=limit)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
