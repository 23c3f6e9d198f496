"""Files of examples + a tokenizer -> everything that a training needs, checked before the first step."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.checks import require
from finetune.model_directory import choose_max_length, count_positions, load_tokenizer, require_vocabulary
from finetune.reading.faults import Faults
from finetune.tasks.task import Encoded, Task

TRAIN, EVAL, TEST = "train", "eval", "test"


@dataclass(frozen=True, slots=True)
class Inputs:
    """The tokenizer, the most tokens of an input, and the inputs by split: `train`, `eval` and perhaps `test`."""

    tokenizer: Any
    max_length: int
    data: dict[str, Encoded]


def read_inputs(
    task: Task, model_dir: Path, files: Mapping[str, Path], *, max_length: int | None, words: bool, faults: Faults
) -> Inputs:
    """Read and encode every file, by split; the task learns its labels from `train`, which must come first.

    `words` says that the task's texts are cut into words. Raises ValueError for whatever a user must mend, with the
    file, the line and the remedy; examples are left out instead where `faults` skip.
    """
    tokenizer = load_tokenizer(model_dir, words=words)
    require_vocabulary(model_dir, tokenizer)
    length = choose_max_length(max_length, count_positions(model_dir))
    least = tokenizer.num_special_tokens_to_add(pair=True) + 2
    require(length >= least, "max_length", length, f"at least {least}: two word pieces and special tokens")
    examples: dict[str, list[Any]] = {}
    for split, path in files.items():
        examples[split] = task.read(f"{split}_file", path, faults)
        if split == TRAIN and examples[split]:
            task.learn_labels(examples[split])
    data = {split: task.encode(several, tokenizer, length, faults) for split, several in examples.items()}
    for split, encoded in data.items():
        if not encoded.features:
            listed = faults.summary()
            raise ValueError(f"{split}_file={files[split]} has no example that can be used\n{listed}".rstrip())
    return Inputs(tokenizer, length, data)


def describe(inputs: Inputs, files: Mapping[str, Path]) -> str:
    """Return a line per file: how many examples it has, and how they fit."""
    lines = []
    for split, encoded in inputs.data.items():
        note = f"; {encoded.note}" if encoded.note else ""
        lines.append(f"{split}: {len(encoded.examples):,} examples of {files[split].name}{note}")
    return "\n".join(lines)
