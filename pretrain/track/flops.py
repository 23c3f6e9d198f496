"""The arithmetic a BERT step needs, counted by hand: what model FLOPs utilization divides by the peak."""

from pretrain.model_config import ModelConfig


def flops_per_step(model: ModelConfig, *, tokens: int, masked_tokens: int, pairs: int, squared_lengths: int) -> int:
    """Return the FLOPs of one forward and backward pass over real items; a multiply and its add are two.

    With h = hidden_size, f = intermediate_size, V = vocab_size and e the width of embeddings (h but in ALBERT), the
    forward pass takes

        layers * (8 h^2 + 4 h f)   per token:         Q, K, V and output projections, the two feed-forward products
        2 e h                      per token:         the projection of ALBERT's embeddings
        layers * 4 h L^2           per instance of L: Q K^T and attention times V, every head together
        2 h e + 2 e V              per masked token:  the transform and the decoder of the MLM head
        2 h^2 + 4 h                per pair:          the pooler and the two-way pair head

    and the backward pass twice that: once for the inputs, once for the weights. `squared_lengths` is the sum of L^2
    over instances; a layer that shares its parameters counts each time it is used. Matrix products only, no
    recomputation, no padding and no fillers: the *model* FLOPs of PaLM, appendix B (arXiv:2204.02311), with attention
    over the whole L x L square, as BERT computes it.
    """
    assert model.vocab_size is not None, "vocab_size is filled from the shards before training"
    hidden, layers, width = model.hidden_size, model.num_hidden_layers, model.embedding_width
    per_token = layers * (8 * hidden**2 + 4 * hidden * model.intermediate_size)
    if model.traits.factorises_embeddings:
        per_token += 2 * width * hidden
    attention = layers * 4 * hidden * squared_lengths
    per_masked_token = 2 * hidden * width + 2 * width * model.vocab_size
    per_pair = 2 * hidden**2 + 4 * hidden
    forward = tokens * per_token + attention + masked_tokens * per_masked_token + pairs * per_pair
    return 3 * forward


def model_flops_utilization(flops: int, *, seconds: float, num_devices: int, peak_tflops: float) -> float:
    """Return the share of the devices' peak that `flops` done in `seconds` amount to.

    `peak_tflops` is one device's, in 10^12 FLOP/s, dense, in the precision of the run (H100 SXM, bf16: 989).
    """
    return flops / (seconds * num_devices * peak_tflops * 1e12)
