from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining

from pretrain.config import Kernels, ModelConfig
from pretrain.model.bert import BertForPretraining
from pretrain.model.hf_weights import from_bert_config, from_huggingface, to_bert_config, to_huggingface
from tests.models import build_model, huggingface_twin, pad, random_batch, tiny_config


@st.composite
def model_configs(draw: st.DrawFn) -> ModelConfig:
    heads = draw(st.sampled_from([1, 2, 3, 4]))
    return tiny_config(
        vocab_size=draw(st.integers(7, 90)),
        hidden_size=heads * draw(st.integers(2, 12)),
        num_hidden_layers=draw(st.integers(1, 12)),
        num_attention_heads=heads,
        intermediate_size=draw(st.integers(1, 48)),
        max_position_embeddings=draw(st.integers(12, 40)),
        type_vocab_size=draw(st.integers(1, 3)),
        layer_norm_eps=draw(st.sampled_from([1e-12, 1e-5, 1e-3])),
        initializer_range=draw(st.sampled_from([0.02, 0.1])),
    )


lengths_of_instances = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def assert_same_logits(model: BertForPretraining, twin: Any, lengths: list[int], config: ModelConfig) -> None:
    batch = random_batch(lengths, config)
    padded = pad(batch)
    with torch.no_grad():
        ours, theirs = model.eval()(batch), twin.eval()(**padded)
    real = padded["attention_mask"].bool()
    expected = theirs.prediction_logits[real][batch.masked_positions]
    torch.testing.assert_close(ours.mlm_logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.nsp_logits, theirs.seq_relationship_logits, atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=25)
@given(config=model_configs(), lengths=lengths_of_instances, seed=st.integers(0, 1000))
def test_our_weights_give_the_same_logits_in_transformers(config: ModelConfig, lengths: list[int], seed: int) -> None:
    model = build_model(config, seed=seed)
    assert_same_logits(model, huggingface_twin(model, config), lengths, config)


@settings(deadline=None, max_examples=25)
@given(config=model_configs(), lengths=lengths_of_instances, seed=st.integers(0, 1000))
def test_transformers_weights_give_the_same_logits_here(config: ModelConfig, lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    twin = BertForPreTraining(BertConfig(**to_bert_config(config, pad_token_id=0)))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=config.initializer_range)
    read = from_bert_config(twin.config.to_dict())
    assert read == config
    model = BertForPretraining(read, Kernels.torch, with_pairs=True)
    model.load_state_dict(from_huggingface(twin.state_dict()))
    assert_same_logits(model, twin, lengths, config)


@pytest.mark.parametrize("with_pairs", [True, False])
def test_there_and_back_gives_the_same_tensors(with_pairs: bool) -> None:
    weights = build_model(tiny_config(num_hidden_layers=12), with_pairs=with_pairs).state_dict()
    back = from_huggingface(to_huggingface(weights))
    assert back.keys() == weights.keys()
    assert all(back[name] is weights[name] for name in weights)


def test_weights_without_pairs_are_those_of_a_masked_lm() -> None:
    config = tiny_config()
    weights = build_model(config, with_pairs=False).state_dict()
    BertForMaskedLM(BertConfig(**to_bert_config(config, pad_token_id=0))).load_state_dict(to_huggingface(weights))


def test_names_and_buffers_of_old_files_are_read() -> None:
    weights = build_model(tiny_config()).state_dict()
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in to_huggingface(weights).items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(24)[None]
    assert from_huggingface(old).keys() == weights.keys()


def test_a_file_that_names_only_the_decoder_is_read() -> None:
    weights = build_model(tiny_config()).state_dict()
    theirs = to_huggingface(weights)
    del theirs["cls.predictions.bias"]
    assert torch.equal(from_huggingface(theirs)["mlm_head.bias"], weights["mlm_head.bias"])


def test_an_untied_decoder_is_refused() -> None:
    theirs = to_huggingface(build_model(tiny_config()).state_dict())
    theirs["cls.predictions.decoder.weight"] = theirs["cls.predictions.decoder.weight"] + 1
    with pytest.raises(ValueError, match=r"decoder\.weight differs from bert\.embeddings"):
        from_huggingface(theirs)


def test_unknown_parameters_are_named() -> None:
    theirs = to_huggingface(build_model(tiny_config()).state_dict())
    theirs["classifier.weight"] = torch.zeros(2, 16)
    with pytest.raises(ValueError, match=r"1 parameters .*classifier\.weight"):
        from_huggingface(theirs)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "gelu_new"},
        {"model_type": "roberta"},
        {"is_decoder": True},
        {"tie_word_embeddings": False},
        {"position_embedding_type": "relative_key"},
    ],
)
def test_settings_that_our_bert_does_not_compute_are_named(change: dict[str, Any]) -> None:
    values = BertConfig().to_dict() | change
    with pytest.raises(ValueError, match=f"{next(iter(change))}={next(iter(change.values()))!r} is not supported"):
        from_bert_config(values)


def test_a_config_without_a_setting_is_refused() -> None:
    values = BertConfig().to_dict()
    del values["hidden_size"], values["layer_norm_eps"]
    with pytest.raises(ValueError, match="lacks hidden_size, layer_norm_eps"):
        from_bert_config(values)
