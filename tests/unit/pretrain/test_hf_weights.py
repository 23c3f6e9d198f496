from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AlbertConfig, AlbertModel, BertConfig, BertModel, RobertaConfig, RobertaModel

from conf.compose import compose
from pretrain.config import Kernels
from pretrain.cost import CostConfig, presets
from pretrain.model.bert import BertForPretraining
from pretrain.model.hf_weights import (
    from_huggingface,
    from_huggingface_config,
    to_huggingface,
    to_huggingface_config,
)
from pretrain.model_config import Architecture, ModelConfig
from tests.models import ALBERT, ROBERTA, build_model, empty_twin, huggingface_twin, pad, random_batch, tiny_config

TINY = {
    Architecture.bert: tiny_config(num_hidden_layers=12),
    Architecture.roberta: tiny_config(num_hidden_layers=12, **ROBERTA),
    Architecture.albert: tiny_config(num_hidden_layers=12, **ALBERT),
}
HEADS = [("bert", True), ("bert", False), ("roberta", False), ("albert", True), ("albert", False)]
CLASSES = {
    ("bert", True): "BertForPreTraining",
    ("bert", False): "BertForMaskedLM",
    ("roberta", False): "RobertaForMaskedLM",
    ("albert", True): "AlbertForPreTraining",
    ("albert", False): "AlbertForMaskedLM",
}


@st.composite
def model_configs(draw: st.DrawFn, architecture: Architecture) -> ModelConfig:
    heads = draw(st.sampled_from([1, 2, 3, 4]))
    return tiny_config(
        architecture=architecture,
        vocab_size=draw(st.integers(7, 90)),
        embedding_size=draw(st.integers(2, 20)) if architecture is Architecture.albert else None,
        hidden_size=heads * draw(st.integers(2, 12)),
        num_hidden_layers=draw(st.integers(1, 12)),
        num_attention_heads=heads,
        intermediate_size=draw(st.integers(1, 48)),
        max_position_embeddings=draw(st.integers(12, 40)),
        type_vocab_size=1 if architecture is Architecture.roberta else draw(st.integers(1, 3)),
        layer_norm_eps=draw(st.sampled_from([1e-12, 1e-5, 1e-3])),
        initializer_range=draw(st.sampled_from([0.02, 0.1])),
    )


lengths_of_instances = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def assert_same_logits(
    model: BertForPretraining, twin: Any, lengths: list[int], config: ModelConfig, pad_token_id: int
) -> None:
    batch = random_batch(lengths, config, pad_token_id=pad_token_id)
    padded = pad(batch, pad_token_id=pad_token_id)
    if config.architecture is Architecture.roberta:
        del padded["token_type_ids"]  # its tokenizers make none
    with torch.no_grad():
        ours, theirs = model.eval()(batch), twin.eval()(**padded)
    real = padded["attention_mask"].bool()
    mlm, pairs = (theirs[0], None) if ours.nsp_logits is None else (theirs[0], theirs[1])
    torch.testing.assert_close(ours.mlm_logits, mlm[real][batch.masked_positions], atol=1e-5, rtol=1e-5)
    if ours.nsp_logits is not None:
        torch.testing.assert_close(ours.nsp_logits, pairs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "with_pairs"), HEADS)
@settings(max_examples=10)
@given(data=st.data(), lengths=lengths_of_instances, seed=st.integers(0, 1000), pad_token_id=st.integers(0, 5))
def test_our_weights_give_the_same_logits_in_transformers(
    name: str, with_pairs: bool, data: st.DataObject, lengths: list[int], seed: int, pad_token_id: int
) -> None:
    config = data.draw(model_configs(Architecture(name)))
    model = build_model(config, seed=seed, with_pairs=with_pairs)
    twin = huggingface_twin(model, config, pad_token_id=pad_token_id)
    assert type(twin).__name__ == CLASSES[name, with_pairs]
    assert_same_logits(model, twin, lengths, config, pad_token_id)


@pytest.mark.parametrize(("name", "with_pairs"), HEADS)
@settings(max_examples=10)
@given(data=st.data(), lengths=lengths_of_instances, seed=st.integers(0, 1000), pad_token_id=st.integers(0, 5))
def test_transformers_weights_give_the_same_logits_here(
    name: str, with_pairs: bool, data: st.DataObject, lengths: list[int], seed: int, pad_token_id: int
) -> None:
    config = data.draw(model_configs(Architecture(name)))
    torch.manual_seed(seed)
    twin = empty_twin(config, with_pairs=with_pairs, pad_token_id=pad_token_id)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=config.initializer_range)
    read = from_huggingface_config(twin.config.to_dict())
    assert read == config
    model = BertForPretraining(read, Kernels.torch, with_pairs=with_pairs)
    model.load_state_dict(from_huggingface(twin.state_dict(), read.architecture, twin.config.pad_token_id))
    assert_same_logits(model, twin, lengths, config, pad_token_id)


FAST_PRESETS = {"tiny", "mini", "albert_base"}


@pytest.mark.parametrize(
    "preset", [pytest.param(name, marks=[pytest.mark.slow] * (name not in FAST_PRESETS)) for name in presets()]
)
def test_every_preset_gives_the_same_logits_in_transformers_at_its_full_size(preset: str) -> None:
    config = compose("cost", CostConfig, [f"model={preset}"]).model
    config = replace(config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = build_model(config, with_pairs=config.traits.has_pair_head)
    assert_same_logits(model, huggingface_twin(model, config), [3, 17], config, 0)


@pytest.mark.parametrize(("name", "with_pairs"), HEADS)
def test_there_and_back_gives_the_same_tensors(name: str, with_pairs: bool) -> None:
    architecture = Architecture(name)
    weights = build_model(TINY[architecture], with_pairs=with_pairs).state_dict()
    back = from_huggingface(to_huggingface(weights, architecture, 3), architecture, 3)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], weights[name]) for name in weights)


def test_robertas_positions_come_after_padding_whose_rows_are_zero() -> None:
    weights = build_model(TINY[Architecture.roberta], with_pairs=False).state_dict()
    table = to_huggingface(weights, Architecture.roberta, 1)["roberta.embeddings.position_embeddings.weight"]
    assert len(table) == 24 + 2
    assert not table[:2].any()
    assert torch.equal(table[2:], weights["embeddings.position_embeddings.weight"])


def test_robertas_published_configs_are_read_with_the_512_positions_that_tokens_have() -> None:
    published = RobertaConfig(max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, vocab_size=50265)
    assert from_huggingface_config(published.to_dict()).max_position_embeddings == 512


def test_an_albert_of_twelve_layers_has_the_parameters_of_one() -> None:
    config = TINY[Architecture.albert]
    model = build_model(config)
    twin = huggingface_twin(model, config)
    assert {name.split(".")[1] for name in model.state_dict() if name.startswith("layers.")} == {"0"}
    assert sum(parameter.numel() for parameter in model.parameters()) == twin.num_parameters()


@pytest.mark.parametrize(
    ("architecture", "config_class", "encoder_class"),
    [
        (Architecture.bert, BertConfig, BertModel),
        (Architecture.roberta, RobertaConfig, RobertaModel),
        (Architecture.albert, AlbertConfig, AlbertModel),
    ],
)
def test_a_bare_encoder_is_read_and_lacks_only_its_heads(
    architecture: Architecture, config_class: Any, encoder_class: Any
) -> None:
    config = TINY[architecture]
    encoder = encoder_class(config_class(**to_huggingface_config(config, pad_token_id=1)))
    read = from_huggingface(encoder.state_dict(), architecture, 1)
    assert "pooler.weight" in read
    model = build_model(config, with_pairs=architecture is not Architecture.roberta)
    heads = {name.split(".")[0] for name in model.load_state_dict(read, strict=False).missing_keys}
    assert heads == {"mlm_head"} | ({"nsp_head"} if config.traits.has_pair_head else set())


def to_bert(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return to_huggingface(weights, Architecture.bert, 0)


def from_bert(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return from_huggingface(weights, Architecture.bert, 0)


def test_names_and_buffers_of_old_files_are_read() -> None:
    weights = build_model(tiny_config()).state_dict()
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in to_bert(weights).items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(24)[None]
    assert from_bert(old).keys() == weights.keys()


@pytest.mark.parametrize("architecture", list(Architecture))
def test_a_file_that_names_only_the_decoder_is_read(architecture: Architecture) -> None:
    config = TINY[architecture]
    weights = build_model(config, with_pairs=False).state_dict()
    theirs = to_huggingface(weights, architecture, 0)
    (bias,) = (name for name in theirs if name.endswith(("predictions.bias", "lm_head.bias")))
    del theirs[bias]
    assert torch.equal(from_huggingface(theirs, architecture, 0)["mlm_head.bias"], weights["mlm_head.bias"])


def test_an_untied_decoder_is_refused() -> None:
    theirs = to_bert(build_model(tiny_config()).state_dict())
    theirs["cls.predictions.decoder.weight"] = theirs["cls.predictions.decoder.weight"] + 1
    with pytest.raises(ValueError, match=r"decoder\.weight differs from bert\.embeddings"):
        from_bert(theirs)


def test_unknown_parameters_are_named() -> None:
    theirs = to_bert(build_model(tiny_config()).state_dict())
    theirs["classifier.weight"] = torch.zeros(2, 16)
    with pytest.raises(ValueError, match=r"1 parameters .*classifier\.weight"):
        from_bert(theirs)


@pytest.mark.parametrize(
    ("config_class", "change"),
    [
        (BertConfig, {"hidden_act": "gelu_new"}),
        (BertConfig, {"model_type": "electra"}),
        (BertConfig, {"is_decoder": True}),
        (BertConfig, {"tie_word_embeddings": False}),
        (BertConfig, {"position_embedding_type": "relative_key"}),
        (RobertaConfig, {"hidden_act": "relu"}),
        (AlbertConfig, {"hidden_act": "gelu"}),
        (AlbertConfig, {"num_hidden_groups": 2}),
        (AlbertConfig, {"inner_group_num": 2}),
    ],
)
def test_settings_that_our_models_do_not_compute_are_named(config_class: Any, change: dict[str, Any]) -> None:
    values = config_class().to_dict() | change
    with pytest.raises(ValueError, match=f"{next(iter(change))}={next(iter(change.values()))!r} is not supported"):
        from_huggingface_config(values)


@pytest.mark.parametrize(
    ("config_class", "lost"),
    [
        (BertConfig, ("hidden_size", "layer_norm_eps")),
        (RobertaConfig, ("pad_token_id",)),
        (AlbertConfig, ("embedding_size",)),
    ],
)
def test_a_config_without_a_setting_is_refused(config_class: Any, lost: tuple[str, ...]) -> None:
    values = {name: value for name, value in config_class().to_dict().items() if name not in lost}
    with pytest.raises(ValueError, match=f"lacks {', '.join(lost)}"):
        from_huggingface_config(values)
