"""How many parameters a model has, by arithmetic: building one to count them takes memory, or seconds on no device."""

from pretrain.config import ModelConfig


def count_parameters(config: ModelConfig, *, with_pairs: bool) -> int:
    """Return the parameters of `BertForPretraining(config)`; word embeddings and the output layer share theirs.

    `config.vocab_size` must be known.
    """
    assert config.vocab_size is not None
    hidden, inner, vocab = config.hidden_size, config.intermediate_size, config.vocab_size
    square, norm = hidden * (hidden + 1), 2 * hidden  # a linear layer from hidden to hidden, with its biases
    embeddings = (vocab + config.type_vocab_size + config.max_position_embeddings) * hidden + norm
    feed_forward = (hidden + 1) * inner + (inner + 1) * hidden
    layer = 4 * square + norm + feed_forward + norm
    mlm_head = square + norm + vocab
    pair_head = square + 2 * (hidden + 1) if with_pairs else 0
    return embeddings + config.num_hidden_layers * layer + mlm_head + pair_head
