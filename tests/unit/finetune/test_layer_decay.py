"""What learns, and at which rate, layer by layer."""

import pytest
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForTokenClassification,
)

from finetune.layer_decay import freeze, layer_depths, parameter_groups

TINY = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 30}


def bert() -> BertForSequenceClassification:
    return BertForSequenceClassification(BertConfig(**TINY))


def albert() -> AlbertForSequenceClassification:
    return AlbertForSequenceClassification(AlbertConfig(**TINY, embedding_size=8))


def learning(model: object) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}  # type: ignore[attr-defined]


def test_rates_fall_from_the_head_to_the_embeddings():
    model = bert()
    groups = parameter_groups(model, learning_rate=1.0, layer_decay=0.5, weight_decay=0.1)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    found = {name: rates[id(parameter)] for name, parameter in model.named_parameters()}
    assert found["classifier.weight"] == found["bert.pooler.dense.weight"] == 1.0
    assert [found[f"bert.encoder.layer.{layer}.output.dense.bias"] for layer in (2, 1, 0)] == [0.5, 0.25, 0.125]
    assert found["bert.embeddings.word_embeddings.weight"] == 0.0625
    assert len(found) == len(rates) == sum(len(group["params"]) for group in groups)


def test_matrices_decay_and_vectors_do_not():
    groups = parameter_groups(bert(), learning_rate=1.0, layer_decay=1.0, weight_decay=0.1)
    assert {(group["weight_decay"], p.ndim > 1) for group in groups for p in group["params"]} == {
        (0.1, True),
        (0.0, False),
    }
    assert len(groups) == 2


@pytest.mark.parametrize(("top", "layers"), [(0, set()), (1, {2}), (3, {0, 1, 2})])
def test_only_the_top_layers_and_the_head_learn(top, layers):
    model = bert()
    freeze(model, top)
    names = learning(model)
    assert {"classifier.weight", "bert.pooler.dense.weight"} <= names
    assert {layer for layer in range(3) if f"bert.encoder.layer.{layer}.output.dense.weight" in names} == layers
    assert "bert.embeddings.word_embeddings.weight" not in names
    assert all(
        p.requires_grad
        for group in parameter_groups(model, learning_rate=1, layer_decay=1, weight_decay=0)
        for p in group["params"]
    )


def test_null_lets_everything_learn():
    model = bert()
    freeze(model, None)
    assert learning(model) == {name for name, _ in model.named_parameters()}


def test_other_models_of_separate_layers_have_depths_too():
    roberta = RobertaForTokenClassification(RobertaConfig(**TINY))
    assert layer_depths(roberta)["roberta.encoder.layer.2.output.dense.bias"] == 1
    distil = DistilBertForSequenceClassification(DistilBertConfig(dim=16, n_layers=3, n_heads=2, hidden_dim=16))
    assert layer_depths(distil)["distilbert.transformer.layer.0.ffn.lin1.bias"] == 3


def test_shared_layers_can_be_frozen_whole_but_not_told_apart():
    model = albert()
    freeze(model, 0)
    assert learning(model) == {"albert.pooler.weight", "albert.pooler.bias", "classifier.weight", "classifier.bias"}
    with pytest.raises(ValueError, match=r"AlbertForSequenceClassification has weights of 0 of its 3"):
        freeze(albert(), 1)
    with pytest.raises(ValueError, match="need a model of separate layers"):
        parameter_groups(albert(), learning_rate=1, layer_decay=0.9, weight_decay=0)


def test_more_layers_than_there_are_is_an_error():
    with pytest.raises(ValueError, match=r"training\.train_top_layers=4 is not valid: the model has 3 layers"):
        freeze(bert(), 4)
