"""The files of a transformers directory: its config.json, its weights and its tokenizer; nothing is built of them."""

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import Tensor

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json")
COMPLETE = "COMPLETE.json"  # in a checkpoint of a run; the run's folder has `checkpoints`


def read_config(directory: Path, field: str) -> dict[str, Any]:
    """Return the content of config.json. Raises ValueError, naming `field`, for what is no model of transformers."""
    _require_model(directory, field)
    return read_object(directory / CONFIG, field)


def read_object(path: Path, field: str) -> dict[str, Any]:
    """Return the JSON object in a file. Raises ValueError, naming `field` and the file, for anything else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{field}: {path} is not JSON ({error}); copy it again") from error
    if not isinstance(values, dict):
        raise ValueError(f"{field}: {path} is not an object of JSON; copy it again")
    return values


def _require_model(directory: Path, field: str) -> None:
    """Raise ValueError unless a directory holds config, weights and tokenizer; a run is told how to export it."""
    export = "which is no model of transformers yet; export it: python -m pretrain.export"
    if (directory / COMPLETE).is_file():
        run = f"run_dir={directory.parent.parent} tag={directory.name}"
        raise ValueError(f"{field}={directory} is a checkpoint of a run, {export} {run} output_dir=DIR")
    if (directory / "checkpoints").is_dir() and not (directory / CONFIG).is_file():
        raise ValueError(f"{field}={directory} is the folder of a run, {export} run_dir={directory} output_dir=DIR")
    if not directory.is_dir():
        raise ValueError(
            f"{field}={directory} is not a directory; name one that holds config.json, weights and tokenizer of a "
            "transformers model (nothing is downloaded)"
        )
    for what, names in (("config", (CONFIG,)), ("weights", WEIGHTS), ("tokenizer", TOKENIZERS)):
        if not any((directory / name).is_file() for name in names):
            cut = (directory / f"{WEIGHTS[0]}.index.json").is_file() and what == "weights"
            remedy = "save it with transformers' save_pretrained"
            in_one = ", whose weights must be in one file (max_shard_size)" if cut else ""
            raise ValueError(f"{field}={directory} has no {what} ({' or '.join(names)}); {remedy}{in_one}")


def weights_file(directory: Path) -> Path:
    """Return the file of the weights: safetensors where there is one."""
    return next(path for name in WEIGHTS if (path := directory / name).is_file())


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file by name, mapped from the disk: what is not used is not read.

    Of a pytorch_model.bin only tensors are unpickled, no code. Raises ValueError when it is no such file.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        # Files older than torch 1.6 are no archives and cannot be mapped.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} cannot be read ({reason}); it is damaged or no file of weights: copy it again"
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise ValueError(f"{path} holds other things than tensors by name; save it with transformers' save_pretrained")
    return dict(content)


def read_vocabulary(directory: Path, field: str) -> tuple[dict[str, int], Tokenizer | None]:
    """Return token -> id of the model's tokenizer, and the tokenizer where there is a tokenizer.json.

    Raises ValueError, naming `field`, for a file that cannot be read.
    """
    path = next(path for name in TOKENIZERS if (path := directory / name).is_file())
    try:
        if path.name == "tokenizer.json":
            tokenizer = Tokenizer.from_file(str(path))
            return tokenizer.get_vocab(), tokenizer
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return {str(token): int(number) for token, number in json.loads(text).items()}, None
    except Exception as error:  # tokenizers raises bare Exception for whatever it cannot parse
        raise ValueError(f"{field}: {path} is no vocabulary ({error}); copy it again") from error
    lines = text.removesuffix("\n").split("\n")
    return {token.rstrip("\r"): number for number, token in enumerate(lines)}, None
