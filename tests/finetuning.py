"""A tiny pretrained model, and labelled files that it can learn from in seconds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForPreTraining, BertTokenizerFast

from finetune.config import compose_finetune
from finetune.tasks.task import Encoded, Logits, Task

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD = ["good", "great", "kind", "warm"]
BAD = ["bad", "poor", "cruel", "cold"]
NAMES = ["anna", "bruno", "clara"]
PLACES = ["paris", "oslo", "rome"]
OTHER = ["the", "ship", "left", "har", "##bour", "saw", "it", "in", "with", "who", "where", "was", "?", ".", ","]
HAN = list("我爱北京天安门看海")
VOCABULARY = [*SPECIAL_TOKENS, *GOOD, *BAD, *NAMES, *PLACES, *OTHER, *HAN, *"0123456789"]


def write_model(folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write a BERT of two layers and 32 hidden units with random weights and the vocabulary above, and return it."""
    settings: dict[str, Any] = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 48,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.1,
    }
    torch.manual_seed(seed)
    BertForPreTraining(BertConfig(**(settings | changes))).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def tokenizer() -> Any:
    """Return the tokenizer of that model."""
    return BertTokenizerFast(vocab={token: number for number, token in enumerate(VOCABULARY)}, do_lower_case=True)


def task_config(task: str, *overrides: str) -> Any:
    """Return the `task` section of a config."""
    needed = [f"task={task}", "model=M", "train_file=T", "eval_file=E", "output_dir=O"]
    return compose_finetune([*needed, *overrides]).task


def outputs_of(model: Any, task: Task, encoded: Encoded) -> Logits:
    """Return a model's outputs over all features at once, as the Trainer gathers them."""
    batch = task.collator(tokenizer())([dict(feature) for feature in encoded.features])
    with torch.no_grad():
        outputs = model.eval()(**{name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")})
    logits = [value.numpy() for name, value in outputs.items() if name.endswith("logits")]
    assert all(isinstance(array, np.ndarray) for array in logits)
    return logits


def write_csv(path: Path, rows: Sequence[Sequence[object]], header: str = "text,label") -> Path:
    lines = [header, *(",".join(f'"{cell}"' for cell in row) for row in rows)]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def sentiment_rows(count: int) -> list[tuple[str, str]]:
    """Return texts whose label is told by one word, half of each label."""
    rows = []
    for number in range(count):
        words, label = ((GOOD, "positive"), (BAD, "negative"))[number % 2]
        word, name = words[number // 2 % len(words)], NAMES[number % len(NAMES)]
        rows.append((f"the {word} ship left {name} in the harbour", label))
    return rows


def write_conll(path: Path, sentences: Sequence[Sequence[tuple[str, str]]], separator: str = "\t") -> Path:
    blocks = ["\n".join(f"{word}{separator}{tag}" for word, tag in sentence) for sentence in sentences]
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    return path


def entity_sentences(count: int) -> list[list[tuple[str, str]]]:
    """Return sentences with a person of one word and a place of two."""
    found = []
    for number in range(count):
        name, place = NAMES[number % len(NAMES)], PLACES[number // 3 % len(PLACES)]
        found.append(
            [
                ("the", "O"),
                ("harbour", "O"),
                ("saw", "O"),
                (name, "B-PER"),
                ("in", "O"),
                (place, "B-LOC"),
                ("harbour", "I-LOC"),
                (".", "O"),
            ]
        )
    return found


def write_squad(path: Path, questions: Sequence[dict[str, Any]], context: str) -> Path:
    content = {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(questions)}]}]}
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def question(name: str, text: str, answer: str | None, context: str, start: int | None = None) -> dict[str, Any]:
    """Return one record of SQuAD; without an answer it is one of SQuAD 2.0 that has none."""
    if answer is None:
        return {"id": name, "question": text, "answers": [], "is_impossible": True}
    place = context.index(answer) if start is None else start
    return {"id": name, "question": text, "answers": [{"text": answer, "answer_start": place}]}


def write_questions(path: Path, count: int) -> Path:
    """Write `count` paragraphs that each name a person and a place, with a question for either."""
    paragraphs = []
    for number in range(count):
        name, place = NAMES[number % len(NAMES)], PLACES[number // 3 % len(PLACES)]
        context = f"the ship left {place} , and {name} saw it in the harbour ."
        asked = [
            question(f"{number}-who", "who saw it ?", name, context),
            question(f"{number}-where", "where was it ?", place, context),
        ]
        paragraphs.append({"context": context, "qas": asked})
    path.write_text(json.dumps({"version": "1.1", "data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
    return path
