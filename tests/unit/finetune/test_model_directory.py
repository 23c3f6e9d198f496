"""A model directory is checked before anything is read: what it lacks is named, and a run is told how to export."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from finetune.model_directory import (
    check_model_directory,
    choose_max_length,
    count_positions,
    load_model,
    load_tokenizer,
    require_vocabulary,
)
from tests.finetuning import VOCABULARY, write_model

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 60}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model")


def test_a_complete_directory_passes(model):
    check_model_directory(model)


def test_a_checkpoint_and_a_run_are_told_how_to_export(tmp_path):
    tag = tmp_path / "run" / "checkpoints" / "step-00000500"
    tag.mkdir(parents=True)
    (tag / "COMPLETE.json").write_text("{}")
    command = f"python -m pretrain.export run_dir={tmp_path / 'run'} "
    with pytest.raises(ValueError, match=re.escape(f"{command}tag=step-00000500 output_dir=DIR")):
        check_model_directory(tag)
    with pytest.raises(ValueError, match=re.escape(f"{command}output_dir=DIR")):
        check_model_directory(tmp_path / "run")


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["tokenizer.json", "vocab.txt"], r"no tokenizer \(tokenizer\.json or vocab\.txt\)"),
        (["config.json"], r"no config \(config\.json\)"),
        (["model.safetensors"], r"no weights \(model\.safetensors"),
    ],
)
def test_what_a_directory_lacks_is_named(model, tmp_path, names, what):
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    for name in names:
        (copy / name).unlink(missing_ok=True)
    with pytest.raises(ValueError, match=f"model={copy} has {what}.*name a complete model"):
        check_model_directory(copy)
    with pytest.raises(ValueError, match="does not exist"):
        check_model_directory(tmp_path / "nowhere")


def test_a_damaged_tokenizer_is_named(model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    (copy / "tokenizer.json").write_text("{oops")
    with pytest.raises(ValueError, match="has a tokenizer that transformers cannot load"):
        load_tokenizer(copy, words=False)


def test_a_tokenizer_of_another_model_is_named(tmp_path):
    folder = write_model(tmp_path / "small", vocab_size=len(VOCABULARY) - 1)
    with pytest.raises(ValueError, match=f"a tokenizer of {len(VOCABULARY)} ids, but embeddings of "):
        require_vocabulary(folder, load_tokenizer(folder, words=True))


def test_positions_are_those_that_inputs_can_use(tmp_path):
    BertForMaskedLM(BertConfig(**TINY, max_position_embeddings=40)).save_pretrained(tmp_path / "bert")
    RobertaForMaskedLM(RobertaConfig(**TINY, max_position_embeddings=42)).save_pretrained(tmp_path / "roberta")
    AlbertForPreTraining(AlbertConfig(**TINY, max_position_embeddings=40)).save_pretrained(tmp_path / "albert")
    assert [count_positions(tmp_path / name) for name in ("bert", "roberta", "albert")] == [40, 40, 40]
    roberta = RobertaForMaskedLM.from_pretrained(tmp_path / "roberta")
    roberta(torch.full((1, 40), 5))
    with pytest.raises((IndexError, RuntimeError)):
        roberta(torch.full((1, 41), 5))


def test_max_length_is_bounded_by_the_positions():
    assert (choose_max_length(None, 48), choose_max_length(20, 48), choose_max_length(20, None)) == (48, 20, 20)
    with pytest.raises(ValueError, match="max_length=49 is not valid: the model has 48 positions; at most that many"):
        choose_max_length(49, 48)
    with pytest.raises(ValueError, match="set a number of tokens"):
        choose_max_length(None, None)


def test_the_encoder_is_loaded_and_the_new_parameters_are_named(model):
    torch.manual_seed(0)
    loaded, new = load_model(model, AutoModelForSequenceClassification, {"id2label": {0: "a", 1: "b", 2: "c"}})
    assert new == ["classifier.bias", "classifier.weight"]
    assert loaded.classifier.out_features == 3
    assert loaded.dtype is torch.float32
    expected = BertForMaskedLM.from_pretrained(model).state_dict()["bert.embeddings.word_embeddings.weight"]
    torch.testing.assert_close(loaded.bert.embeddings.word_embeddings.weight, expected)


def test_a_pooler_that_pretraining_did_not_have_is_new_and_said_so(tmp_path):
    BertForMaskedLM(BertConfig(**TINY)).save_pretrained(tmp_path)
    _, new = load_model(tmp_path, AutoModelForSequenceClassification, {})
    assert "bert.pooler.dense.weight" in new


def test_weights_of_another_architecture_are_refused(tmp_path, model):
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    RobertaConfig(**TINY).save_pretrained(copy)
    with pytest.raises(ValueError, match=r"lacks .* weights of the encoder"):
        load_model(copy, AutoModelForTokenClassification, {})
