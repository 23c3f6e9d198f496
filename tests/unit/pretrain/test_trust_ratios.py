"""Trust ratios by parameter become a few numbers by layer."""

from pretrain.track.trust_ratios import trust_ratio_metrics


def test_layers_have_their_medians_and_all_together_min_median_and_max():
    ratios = {
        "embeddings.word_embeddings.weight": 4.0,
        "layers.0.attention.query.weight": 1.0,
        "layers.0.attention.key.weight": 3.0,
        "layers.11.output.weight": 0.5,
        "pooler.weight": 2.5,
    }
    assert trust_ratio_metrics(ratios) == {
        "trust_ratio_min": 0.5,
        "trust_ratio_median": 2.5,
        "trust_ratio_max": 4.0,
        "trust_ratio/embeddings": 4.0,
        "trust_ratio/layers.0": 2.0,
        "trust_ratio/layers.11": 0.5,
        "trust_ratio/pooler": 2.5,
    }


def test_no_ratios_no_metrics():
    assert trust_ratio_metrics({}) == {}
