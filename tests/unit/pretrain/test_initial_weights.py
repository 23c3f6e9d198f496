"""`model.init_from`: transformers' weights become ours to the last bit, and whatever does not fit is named."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from data_prep.special_tokens import WORDPIECE
from data_prep.tokenizer import wordpiece_tokenizer
from pretrain.config import Kernels
from pretrain.initial_weights import InitialWeights, find_initial_weights, fit_weights
from pretrain.model.bert import BertForPretraining
from pretrain.model.hf_vocabulary import match_vocabulary
from pretrain.model_config import ModelConfig, RunModelConfig
from tests.continued import VOCABULARY, model_config, write_model
from tests.models import ALBERT, ROBERTA, pad, random_batch

WORDS, POSITIONS = "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"
ARCHITECTURES = {"bert": {}, "roberta": ROBERTA, "albert": ALBERT}

MERGES = [("a", "b"), ("b", "c")]


def run_config(config: ModelConfig, directory: Path, **changes: Any) -> RunModelConfig:
    return RunModelConfig(**(asdict(config) | {"init_from": str(directory), "extend_vocabulary": False} | changes))


def tokenizer_of(*new_words: str, lowercase: bool = True) -> Tokenizer:
    return wordpiece_tokenizer([*VOCABULARY, *new_words], lowercase=lowercase, source="the test")


def find(model: RunModelConfig, *new_words: str, with_pairs: bool = False) -> InitialWeights:
    return find_initial_weights(model, tokenizer_of(*new_words), with_pairs=with_pairs, shards="data/shards")


def weights_of(found: InitialWeights, model: RunModelConfig) -> dict[str, torch.Tensor]:
    weights, _ = fit_weights(
        found.path, found.shapes, model, found.config, found.vocabulary, pad_token_id=found.pad_token_id
    )
    return weights


def hidden_states(model: RunModelConfig, weights: dict[str, torch.Tensor], batch: Any) -> torch.Tensor:
    ours = BertForPretraining(model, Kernels.torch, with_pairs=False, kept_layers=[model.num_hidden_layers]).eval()
    own = ours.state_dict()
    ours.load_state_dict(own | {name: tensor for name, tensor in weights.items() if name in own})
    with torch.no_grad():
        states = ours(batch).hidden_states
    assert states is not None
    return states[-1]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "albert"])
@pytest.mark.parametrize(
    ("auto_class", "left_out"),
    [
        (AutoModel, "pooler"),
        (AutoModelForSequenceClassification, "classifier"),
        (AutoModelForTokenClassification, "classifier"),
        (AutoModelForQuestionAnswering, "qa_outputs"),
    ],
    ids=["bare", "classification", "tagging", "questions"],
)
def test_hidden_states_equal_those_of_transformers_whatever_the_head(
    architecture: str, auto_class: Any, left_out: str, tmp_path: Path
) -> None:
    config = model_config(**ARCHITECTURES[architecture])
    theirs = write_model(tmp_path / "model", auto_class, config)
    model = run_config(config, tmp_path / "model")
    found = find(model)
    assert "; left out of it: " in found.note
    assert left_out in found.note
    assert "not in it, so drawn from the seed: masked-token head;" in found.note
    assert not any(name.startswith("mlm_head") for name in found.shapes)
    batch = random_batch([9, 24, 3], config, pad_token_id=0)
    padded = pad(batch)
    if architecture == "roberta":
        del padded["token_type_ids"]
    with torch.no_grad():
        encoder = getattr(theirs, theirs.base_model_prefix, theirs)
        wanted = encoder(**padded).last_hidden_state[padded["attention_mask"].bool()]
    torch.testing.assert_close(hidden_states(model, weights_of(found, model), batch), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "albert"])
def test_a_model_with_its_pretraining_heads_gives_its_logits_and_lacks_nothing(
    architecture: str, tmp_path: Path
) -> None:
    config = model_config(**ARCHITECTURES[architecture])
    theirs = write_model(tmp_path / "model", AutoModelForPreTraining, config)
    model = run_config(config, tmp_path / "model")
    found = find(model, with_pairs=True)
    assert found.note == f"weights of {tmp_path / 'model'}: with all heads"
    ours = BertForPretraining(model, Kernels.torch, with_pairs=True).eval()
    ours.load_state_dict(weights_of(found, model))
    batch = random_batch([9, 24, 3], config)
    padded = pad(batch)
    with torch.no_grad():
        logits, wanted = ours(batch), theirs(**padded)
    mlm = wanted.prediction_logits[padded["attention_mask"].bool()][batch.masked_positions]
    torch.testing.assert_close(logits.mlm_logits, mlm, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits.nsp_logits, wanted[1], atol=1e-5, rtol=1e-5)


def test_heads_that_are_there_and_have_no_use_are_named(tmp_path: Path) -> None:
    write_model(tmp_path, AutoModelForPreTraining, model_config())
    assert find(run_config(model_config(), tmp_path)).note.endswith(
        ": with all heads; left out of it: pair head, pooler"
    )
    write_model(tmp_path, AutoModelForMaskedLM, model_config())
    said = find(run_config(model_config(), tmp_path), with_pairs=True).note
    assert said.endswith(": not in it, so drawn from the seed: pooler, pair head")


def test_old_files_are_read_position_ids_gamma_beta_and_pickle(tmp_path: Path) -> None:
    config = model_config()
    write_model(tmp_path, AutoModelForPreTraining, config)
    model = run_config(config, tmp_path)
    wanted = weights_of(find(model, with_pairs=True), model)
    tensors = load_file(tmp_path / "model.safetensors")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    } | {"bert.embeddings.position_ids": torch.arange(24)[None]}
    (tmp_path / "model.safetensors").unlink()
    for archive in (True, False):
        torch.save(old, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=archive)
        found = find(model, with_pairs=True)
        assert found.path.name == "pytorch_model.bin"
        weights = weights_of(found, model)
        assert weights.keys() == wanted.keys()
        assert all(torch.equal(weights[name], wanted[name]) for name in wanted)


def test_rows_of_no_token_are_cut_off(tmp_path: Path) -> None:
    config = model_config(vocab_size=72)
    theirs = write_model(tmp_path, AutoModelForMaskedLM, config)
    model = run_config(model_config(), tmp_path)
    found = find(model)
    assert found.note.endswith("; 8 rows of no token in its tokenizer left out")
    weights = weights_of(found, model)
    assert torch.equal(weights[WORDS], theirs.get_input_embeddings().weight[:64])
    assert len(weights["mlm_head.bias"]) == 64


def test_a_new_word_begins_as_the_mean_of_the_pieces_it_had(tmp_path: Path) -> None:
    theirs = write_model(tmp_path, AutoModelForMaskedLM, model_config())
    model = run_config(model_config(), tmp_path, vocab_size=67, extend_vocabulary=True)
    found = find(model, "photovoltaik", "energys", "zzz")
    assert found.note.endswith("3 new words begin as the mean of their pieces")
    weights, table = weights_of(found, model), theirs.get_input_embeddings().weight.detach()
    bias = theirs.cls.predictions.bias.detach()
    assert torch.equal(weights[WORDS][:64], table)
    for row, pieces in ((64, ["photo", "##volt", "##aik"]), (65, ["energy", "##s"]), (66, ["[UNK]"])):
        ids = [VOCABULARY.index(piece) for piece in pieces]
        torch.testing.assert_close(weights[WORDS][row], table[ids].mean(0))
        torch.testing.assert_close(weights["mlm_head.bias"][row], bias[ids].mean())


@pytest.mark.parametrize("architecture", ["bert", "roberta", "albert"])
def test_positions_beyond_the_table_repeat_it_from_its_start(architecture: str, tmp_path: Path) -> None:
    config = model_config(**ARCHITECTURES[architecture])
    theirs = write_model(tmp_path, AutoModelForMaskedLM, config)
    model = run_config(config, tmp_path, max_position_embeddings=60)
    found = find(model)
    assert "its 24 positions repeated to 60" in found.note
    table = theirs.base_model.embeddings.position_embeddings.weight.detach()[-24:]
    assert torch.equal(weights_of(found, model)[POSITIONS], torch.cat([table, table, table[:12]]))
    batch = random_batch([20, 7], config, pad_token_id=0)
    shorter = run_config(config, tmp_path)
    torch.testing.assert_close(
        hidden_states(model, weights_of(found, model), batch),
        hidden_states(shorter, weights_of(find(shorter), shorter), batch),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / "model"
    write_model(directory, AutoModelForMaskedLM, model_config())
    return directory


def change_tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def act(directory: Path) -> None:
        tensors = load_file(directory / "model.safetensors")
        change(tensors)
        save_file(tensors, directory / "model.safetensors")

    return act


def remove(*names: str) -> Callable[[Path], None]:
    def act(directory: Path) -> None:
        for name in names:
            (directory / name).unlink()

    return act


def change_json(name: str, **values: Any) -> Callable[[Path], None]:
    def act(directory: Path) -> None:
        path = directory / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return act


def make_checkpoint(directory: Path) -> None:
    (directory / "COMPLETE.json").write_text("{}")


def make_run(directory: Path) -> None:
    (directory / "config.json").unlink()
    (directory / "checkpoints").mkdir()


def make_pickle(content: object) -> Callable[[Path], None]:
    def act(directory: Path) -> None:
        (directory / "model.safetensors").unlink()
        torch.save(content, directory / "pytorch_model.bin")

    return act


class Code:
    """Something that weights_only refuses."""


FIRST = "bert.encoder.layer.0.attention.self.query.weight"
TOKENIZER_NAMES = ("tokenizer.json", "vocab.txt")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, r"model\.init_from=\S+model is not a directory; name one that holds config\.json"),
        (make_checkpoint, r"is a checkpoint of a run.*python -m pretrain\.export run_dir=\S+ tag=model output_dir=DIR"),
        (make_run, r"is the folder of a run.*python -m pretrain\.export run_dir=\S+model output_dir=DIR"),
        (remove("config.json"), r"has no config \(config\.json\)"),
        (remove("model.safetensors"), r"has no weights \(model\.safetensors or pytorch_model\.bin\)"),
        (remove(*TOKENIZER_NAMES), r"has no tokenizer \(tokenizer\.json or vocab\.txt or vocab\.json\)"),
        (lambda path: (path / "config.json").write_text("{"), r"config\.json is not JSON"),
        (change_json("config.json", model_type="gpt2"), r"model: config\.json: model_type='gpt2' is not supported"),
        (change_json("config.json", hidden_act="relu"), r"hidden_act='relu' is not supported"),
        (change_json("config.json", hidden_size="16"), r"config\.json: hidden_size='16' is not a number"),
        (
            change_tensors(lambda tensors: tensors.update({FIRST.replace("r.0", "r.2"): tensors[FIRST].clone()})),
            r"model\.safetensors has 1 parameters that the model of config\.json has not, layers\.2\.attention\.query",
        ),
        (
            change_json("config.json", max_position_embeddings=30),
            r"position_embeddings.weight is \[24, 16\], and \[30, 16",
        ),
        (lambda path: (path / "model.safetensors").write_bytes(b"12"), r"model\.safetensors cannot be read"),
        (make_pickle({"weight": Code()}), r"pytorch_model\.bin cannot be read"),
        (make_pickle([1, 2]), r"holds other things than tensors by name"),
        (
            change_tensors(lambda tensors: tensors.pop(FIRST)),
            r"lacks 1 parameters .* layers\.0\.attention\.query\.weight",
        ),
        (
            change_tensors(lambda tensors: tensors[FIRST].fill_(torch.nan)),
            r"1 parameters hold NaN or infinity, layers\.0",
        ),
        (
            change_tensors(lambda tensors: tensors.update({FIRST: torch.zeros(8, 16)})),
            r"query\.weight is \[8, 16\], and \[16, 16",
        ),
        (
            change_tensors(lambda tensors: tensors.update({"bert.encoder.gate.weight": torch.zeros(1)})),
            r"model\.safetensors: 1 parameters have no place in our bert .*bert\.encoder\.gate\.weight",
        ),
        (
            change_tensors(
                lambda tensors: tensors.update(
                    {
                        "bert.embeddings.word_embeddings.weight": torch.zeros(60, 16),
                        "cls.predictions.bias": torch.zeros(60),
                    }
                )
            ),
            r"has word embeddings for 60 tokens, and the tokenizer beside it has 64; resize",
        ),
    ],
)
def test_a_directory_that_is_no_whole_model_is_refused_by_name(
    spoil: Callable[[Path], None], message: str, whole: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "model"
    shutil.copytree(whole, directory)
    spoil(directory)
    with pytest.raises(ValueError, match=message) as caught:
        find(run_config(model_config(), directory))
    assert str(directory) in str(caught.value)


def test_shards_of_another_vocabulary_are_refused_with_the_command_that_makes_right_ones(whole: Path) -> None:
    model = run_config(model_config(), whole)
    other = wordpiece_tokenizer([*WORDPIECE, *reversed(VOCABULARY[5:])], lowercase=True, source="the test")
    command = rf"python -m data_prep tokenizer\.vocab_file={re.escape(str(whole))}/tokenizer\.json \.\.\."
    message = rf"58 of its 64 tokens are others in data/shards: '##s' has id 5 in the model and 63 .*{command}"
    with pytest.raises(ValueError, match=message):
        find_initial_weights(model, other, with_pairs=False, shards="data/shards")
    with pytest.raises(ValueError, match=r"has the normalizer \{.*\"lowercase\": true.*as data/shards; prepare"):
        find_initial_weights(model, tokenizer_of(lowercase=False), with_pairs=False, shards="data/shards")


def test_a_tokenizer_of_a_kind_that_data_prep_has_not_is_refused(whole: Path, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(whole, directory)
    ids = {token: number for number, token in enumerate(VOCABULARY)}
    Tokenizer(models.WordLevel(ids, unk_token="[UNK]")).save(str(directory / "tokenizer.json"))
    message = r"is a WordLevel model, and data_prep makes shards with WordPiece, BPE, Unigram only; name another model"
    with pytest.raises(ValueError, match=message):
        find(run_config(model_config(), directory))


def test_a_unigram_tokenizer_must_be_that_of_the_shards_scores_too(whole: Path, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(whole, directory)

    def unigram(scores: list[float]) -> Tokenizer:
        return Tokenizer(models.Unigram(list(zip(VOCABULARY, scores, strict=True)), unk_id=1))

    scores = [-float(number) for number in range(64)]
    unigram(scores).save(str(directory / "tokenizer.json"))
    config = run_config(model_config(), directory)
    found = find_initial_weights(config, unigram(scores), with_pairs=False, shards="data/shards")
    assert (found.vocabulary.num_old, found.vocabulary.pieces) == (64, ())
    command = r"python -m data_prep tokenizer\.vocab_file=.*/tokenizer\.json tokenizer\.kind=unigram \.\.\."
    with pytest.raises(ValueError, match=rf"its tokenizer has another `vocab` than data/shards; .*{command}"):
        find_initial_weights(config, unigram(scores[::-1]), with_pairs=False, shards="data/shards")
    cutting = unigram(scores)
    cutting.add_tokens(["w7"])
    with pytest.raises(ValueError, match=rf"looks for \[\] in text before all else, and not \[\"w7\"\] as .*{command}"):
        find_initial_weights(config, cutting, with_pairs=False, shards="data/shards")
    with pytest.raises(ValueError, match=rf"has the normalizer null, and not .*{command}"):
        find_initial_weights(config, tokenizer_of(lowercase=True), with_pairs=False, shards="data/shards")


def test_a_vocab_txt_alone_says_ids_and_case(whole: Path, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(whole, directory)
    (directory / "tokenizer.json").unlink()
    assert find(run_config(model_config(), directory)).vocabulary.num_old == 64
    with pytest.raises(ValueError, match=r"do_lower_case=True, and lowercase is False in .*tokenizer\.lowercase=true"):
        find_initial_weights(
            run_config(model_config(), directory), tokenizer_of(lowercase=False), with_pairs=False, shards="data/shards"
        )


def test_new_words_are_asked_for(whole: Path) -> None:
    longer = run_config(model_config(vocab_size=65), whole)
    with pytest.raises(
        ValueError, match=r"has 1 tokens that the model has not, first 'photovoltaik': model\.extend_voc"
    ):
        find(longer, "photovoltaik")
    with pytest.raises(ValueError, match=r"has 0 tokens that the model has not: .*tokenizer\.add_words_file=FILE"):
        find(replace(run_config(model_config(), whole), extend_vocabulary=True))


def test_new_tokens_among_the_old_ones_are_refused(whole: Path, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(whole, directory)
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    del tokenizer["model"]["vocab"]["w3"]
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    model = run_config(model_config(), directory, extend_vocabulary=True)
    with pytest.raises(ValueError, match=r"'w3' has id 15 in data/shards, among the model's"):
        find(model)


def test_new_tokens_that_only_continue_words_are_refused(whole: Path) -> None:
    """The mean of their pieces would be that of the text `##volts`."""
    model = run_config(model_config(), whole, vocab_size=65, extend_vocabulary=True)
    longer = wordpiece_tokenizer([*VOCABULARY, "##volts"], lowercase=True, source="the test")
    with pytest.raises(ValueError, match=r"'##volts' in S is a part of words, .*tokenizer\.add_words_file"):
        find_initial_weights(model, longer, with_pairs=False, shards="S")


def test_merges_in_another_order_are_refused(whole: Path, tmp_path: Path) -> None:
    """`abc` is `ab c` with one and `a bc` with the other."""
    directory = tmp_path / "model"
    shutil.copytree(whole, directory)
    ids = {token: number for number, token in enumerate(("a", "b", "c", "ab", "bc"))}
    first, second = (Tokenizer(models.BPE(ids, merges)) for merges in (MERGES, MERGES[::-1]))
    first.save(str(directory / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"has another `merges` than S; prepare the shards with it.*byte_bpe"):
        match_vocabulary(directory, second, shards="S", extend=False)
    assert match_vocabulary(directory, first, shards="S", extend=False).num_old == 5
