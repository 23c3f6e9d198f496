"""The config of the model, and the one table of what its architectures do differently. Checked when built."""

from dataclasses import dataclass
from enum import StrEnum

from conf.checks import require


class Architecture(StrEnum):
    """Which of transformers' families the model belongs to; the names are its `model_type`s."""

    bert = "bert"  # Devlin et al. 2019, arXiv:1810.04805; google-research/bert
    roberta = "roberta"  # Liu et al. 2019, arXiv:1907.11692; fairseq
    albert = "albert"  # Lan et al. 2020, arXiv:1909.11942; google-research/albert


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What one architecture computes otherwise than another; whatever is not listed is the same for all."""

    title: str  # as its paper spells it
    gelu: str  # torch's `approximate`: none is the exact one, tanh is transformers' gelu_new
    has_pair_head: bool  # where shards have pairs: a pooler on `[CLS]` and a two-way head, nsp or sop alike
    factorises_embeddings: bool  # `embedding_size` wide, projected to `hidden_size`; the MLM head goes back
    shares_layers: bool  # one layer's parameters, applied `num_hidden_layers` times


TRAITS = {
    Architecture.bert: Traits(
        title="BERT", gelu="none", has_pair_head=True, factorises_embeddings=False, shares_layers=False
    ),
    Architecture.roberta: Traits(
        title="RoBERTa", gelu="none", has_pair_head=False, factorises_embeddings=False, shares_layers=False
    ),
    Architecture.albert: Traits(
        title="ALBERT", gelu="tanh", has_pair_head=True, factorises_embeddings=True, shares_layers=True
    ),
}
"""How the files of transformers' classes differ besides is in `pretrain/model/hf_names.py`."""


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """An encoder, in the words of transformers' configs. A null `vocab_size` is taken from the shards.

    `max_position_embeddings` counts the positions that tokens can have, for RoBERTa too: its file has more rows.
    """

    architecture: Architecture
    vocab_size: int | None
    embedding_size: int | None  # of ALBERT; null in the others, whose embeddings are `hidden_size` wide
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    hidden_dropout_prob: float
    attention_probs_dropout_prob: float
    layer_norm_eps: float
    initializer_range: float

    @property
    def traits(self) -> Traits:
        """What the architecture does otherwise than others."""
        return TRAITS[self.architecture]

    @property
    def embedding_width(self) -> int:
        """Elements of one word embedding."""
        return self.embedding_size or self.hidden_size

    @property
    def num_own_layers(self) -> int:
        """Layers with parameters of their own."""
        return 1 if self.traits.shares_layers else self.num_hidden_layers

    def __post_init__(self) -> None:
        heads, hidden = self.num_attention_heads, self.hidden_size
        for name in (
            "hidden_size",
            "num_attention_heads",
            "max_position_embeddings",
            "type_vocab_size",
            "initializer_range",
            "layer_norm_eps",
        ):
            require(getattr(self, name) > 0, f"model.{name}", getattr(self, name), "above 0")
        nearest = max(heads, round(hidden / max(heads, 1)) * heads)
        require(
            heads >= 1 and hidden % heads == 0,
            "model.hidden_size",
            hidden,
            f"a multiple of {heads} heads, as {nearest}",
        )
        require(self.num_hidden_layers >= 1, "model.num_hidden_layers", self.num_hidden_layers, "at least 1")
        require(self.intermediate_size >= 1, "model.intermediate_size", self.intermediate_size, "at least 1")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            require(0 <= getattr(self, name) < 1, f"model.{name}", getattr(self, name), "at least 0 and below 1")
        self._require_embedding_size()

    def _require_embedding_size(self) -> None:
        size = self.embedding_size
        if self.traits.factorises_embeddings:
            remedy = f"{self.traits.title} needs a width for its embeddings, 128 as in the paper"
            require(size is not None and size >= 1, "model.embedding_size", size, remedy)
        else:
            remedy = f"{self.traits.title}'s embeddings are hidden_size wide; leave it null, or use architecture=albert"
            require(size is None, "model.embedding_size", size, remedy)


@dataclass(kw_only=True, slots=True)
class RunModelConfig(ModelConfig):
    """The model of a run, and what its first weights are. With `init_from`, sizes are those of its config.json."""

    init_from: str | None  # a directory of transformers; null: weights are drawn
    extend_vocabulary: bool  # the shards have words that the model of `init_from` has not

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)  # super() knows no class with slots
        needed = "false without model.init_from: a vocabulary of a new model has all words of the shards"
        require(bool(self.init_from) or not self.extend_vocabulary, "model.extend_vocabulary", True, needed)
        remedy = "null, or a directory with a model of transformers"
        require(self.init_from is None or bool(self.init_from), "model.init_from", self.init_from, remedy)
