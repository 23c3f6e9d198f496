"""The other families fine-tune as BERT does: byte-level words and another pair format, and shared layers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    AlbertConfig,
    AlbertForPreTraining,
    AutoTokenizer,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizerFast,
)

from finetune.__main__ import main
from tests.finetuning import (
    VOCABULARY,
    entity_sentences,
    sentiment_rows,
    tokenizer,
    write_conll,
    write_csv,
    write_questions,
)

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of each task, a RoBERTa with a byte-level vocabulary, and an ALBERT."""
    folder = tmp_path_factory.mktemp("families")
    write_csv(folder / "all.csv", sentiment_rows(16))
    write_conll(folder / "all.conll", entity_sentences(9))
    write_questions(folder / "all.json", 5)
    torch.manual_seed(0)
    bytes_of = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bytes_of.train([str(folder / "all.csv")], vocab_size=300, special_tokens=special, show_progress=False)
    roberta = RobertaTokenizerFast(tokenizer_object=bytes_of._tokenizer)
    roberta.save_pretrained(folder / "roberta")
    config = RobertaConfig(**TINY, vocab_size=len(roberta), max_position_embeddings=82)
    RobertaForMaskedLM(config).save_pretrained(folder / "roberta")
    tokenizer().save_pretrained(folder / "albert")
    albert = AlbertConfig(**TINY, embedding_size=16, vocab_size=len(VOCABULARY), max_position_embeddings=60)
    AlbertForPreTraining(albert).save_pretrained(folder / "albert")
    return folder


def finetune(folder: Path, output_dir: Path, model: str, suffix: str, *keys: str) -> dict[str, Any]:
    files = [f"{split}_file={folder / 'all'}.{suffix}" for split in ("train", "eval")]
    sizes = ["training.global_batch_size=8", "training.micro_batch_size=4", "training.learning_rate=3e-3"]
    steps = ["training.max_steps=45", "evaluation.every=15"]
    assert main([*files, f"model={folder / model}", f"output_dir={output_dir}", *sizes, *steps, *keys]) == 0
    results: dict[str, Any] = json.loads((output_dir / "results.json").read_text())
    return results["mean"]["eval"]


@pytest.mark.parametrize("model", ["roberta", "albert"])
def test_entities_are_learned(folder, tmp_path, model):
    assert finetune(folder, tmp_path / "out", model, "conll", "task=tagging")["f1"] == 1.0


def test_words_of_a_byte_level_vocabulary_have_their_blank(folder, tmp_path):
    finetune(folder, tmp_path / "out", "roberta", "conll", "task=tagging", "training.max_steps=15")
    written = AutoTokenizer.from_pretrained(tmp_path / "out" / "seed-0" / "model")
    assert written.tokenize(["ship"], is_split_into_words=True)[0].startswith("Ġ")


def test_answers_are_learned_with_two_separators_between_question_and_context(folder, tmp_path):
    scores = finetune(folder, tmp_path / "out", "roberta", "json", "task=question_answering", "task.window_overlap=8")
    assert scores["f1"] >= 90.0


def test_labels_are_learned_with_shared_layers(folder, tmp_path):
    assert finetune(folder, tmp_path / "out", "albert", "csv", "task=classification")["accuracy"] == 1.0
