"""A transformers directory -> its tokenizer, its number of positions, and the model with a new head."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
COMPLETE_FILE = "COMPLETE.json"
"""Of a checkpoint of `pretrain`; a run's folder has `checkpoints/`."""


def check_model_directory(directory: Path) -> None:
    """Raise ValueError unless a directory holds a config, weights and a tokenizer; a run is told how to export it."""
    if (directory / COMPLETE_FILE).is_file():
        run_dir = directory.parent.parent
        raise ValueError(
            f"model={directory} is a checkpoint of a run, not a model; export it: "
            f"python -m pretrain.export run_dir={run_dir} tag={directory.name} output_dir=DIR"
        )
    if (directory / "checkpoints").is_dir() and not (directory / "config.json").is_file():
        raise ValueError(
            f"model={directory} is the folder of a run, not a model; export it: "
            f"python -m pretrain.export run_dir={directory} output_dir=DIR"
        )
    if not directory.is_dir():
        raise ValueError(f"model={directory} does not exist; name a folder with a model of transformers")
    for what, names in (("config", ("config.json",)), ("weights", WEIGHT_FILES), ("tokenizer", TOKENIZER_FILES)):
        if not any((directory / name).is_file() for name in names):
            raise ValueError(
                f"model={directory} has no {what} ({' or '.join(names[:2])}); name a complete model of transformers, "
                "as python -m pretrain.export writes it"
            )


def load_tokenizer(directory: Path, *, words: bool) -> Any:
    """Return the tokenizer of a model directory; `words` says that it gets text that is cut into words already.

    Raises ValueError when transformers cannot read it, or when it cannot tell where tokens stand in a text.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory)
        # A byte-level vocabulary has " word" besides "word"; words that are given one by one need the former.
        if words and getattr(tokenizer, "add_prefix_space", None) is False:
            tokenizer = AutoTokenizer.from_pretrained(directory, add_prefix_space=True)
    except Exception as error:  # whatever tokenizers and transformers raise for a file they cannot read
        reason = " ".join(str(error).split())
        raise ValueError(f"model={directory} has a tokenizer that transformers cannot load: {reason}") from error
    if not tokenizer.is_fast or tokenizer.pad_token is None or tokenizer.cls_token is None:
        raise ValueError(
            f"model={directory} has no tokenizer.json with [CLS] and padding tokens; save the tokenizer in the fast "
            "format of transformers"
        )
    return tokenizer


def count_positions(directory: Path) -> int | None:
    """Return the longest input of a model in tokens; None when nothing bounds it.

    RoBERTa's position embeddings begin behind the padding id, so that 514 of them serve 512 tokens.
    """
    config = AutoConfig.from_pretrained(directory)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    bound: int | None = getattr(config, "max_position_embeddings", None)
    return bound


def choose_max_length(wanted: int | None, positions: int | None) -> int:
    """Return `max_length`, or as many tokens as the model has positions. Raises ValueError when it has fewer."""
    if wanted is None and positions is None:
        raise ValueError("max_length=None is not valid: nothing bounds this model's inputs; set a number of tokens")
    if wanted is None:
        assert positions is not None
        return positions
    if positions is not None and wanted > positions:
        raise ValueError(f"max_length={wanted} is not valid: the model has {positions} positions; at most that many")
    return wanted


def require_vocabulary(directory: Path, tokenizer: Any) -> None:
    """Raise ValueError when the tokenizer has more ids than the model has embeddings."""
    known = AutoConfig.from_pretrained(directory).vocab_size
    if len(tokenizer) > known:
        raise ValueError(
            f"model={directory} has a tokenizer of {len(tokenizer)} ids, but embeddings of {known}: they do not belong "
            "together; copy the tokenizer that the model was trained with"
        )


def load_model(directory: Path, auto_class: Any, head: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Return the model in fp32 with a head for a task, and the names of the parameters that are new.

    torch's random state decides the new ones. Raises ValueError when the directory lacks weights of the encoder.
    """
    config = AutoConfig.from_pretrained(directory, **head)
    try:
        model, report = auto_class.from_pretrained(
            directory, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except ValueError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"model={directory} cannot be loaded for this task: {reason}") from error
    new = sorted({*report["missing_keys"], *(entry[0] for entry in report["mismatched_keys"])})
    prefix = f"{model.base_model_prefix}."
    lacking = [name for name in new if name.startswith(prefix) and ".pooler." not in name]
    if lacking:
        raise ValueError(
            f"model={directory} lacks {len(lacking)} weights of the encoder, {lacking[0]} first: it is no complete "
            f"{type(model).__name__} or holds another architecture than its config.json says"
        )
    return model, new
