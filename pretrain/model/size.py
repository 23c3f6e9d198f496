"""How many parameters a model has, by arithmetic: building one to count them takes memory, or seconds on no device."""

from pretrain.model_config import ModelConfig


def count_parameters(config: ModelConfig, *, with_pairs: bool) -> int:
    """Return the parameters of `BertForPretraining(config)`; word embeddings and the output layer share theirs.

    `config.vocab_size` must be known.
    """
    assert config.vocab_size is not None
    hidden, inner = config.hidden_size, config.intermediate_size
    width, vocab = config.embedding_width, config.vocab_size
    embeddings = (vocab + config.type_vocab_size + config.max_position_embeddings) * width + _norm(width)
    projection = _linear(width, hidden) if config.traits.factorises_embeddings else 0
    attention = 4 * _linear(hidden, hidden) + _norm(hidden)
    feed_forward = _linear(hidden, inner) + _linear(inner, hidden) + _norm(hidden)
    mlm_head = _linear(hidden, width) + _norm(width) + vocab
    pair_head = _linear(hidden, hidden) + _linear(hidden, 2) if with_pairs else 0
    return embeddings + projection + config.num_own_layers * (attention + feed_forward) + mlm_head + pair_head


def _linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def _norm(width: int) -> int:
    return 2 * width
