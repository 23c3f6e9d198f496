"""Small teachers: model directories of transformers that have the vocabulary of a shard directory."""

import shutil
from pathlib import Path
from typing import Any

from tests.models import build_model, huggingface_twin, tiny_config


def write_teacher(directory: Path, shards: Path, *, seed: int = 0, with_pairs: bool = True, **changes: Any) -> Path:
    """Write a BERT of three layers and 16 hidden units, and the shards' tokenizer; return the directory."""
    settings = {"vocab_size": 64, "num_hidden_layers": 3, "max_position_embeddings": 32}
    config = tiny_config(**(settings | changes))
    huggingface_twin(build_model(config, seed=seed, with_pairs=with_pairs), config).save_pretrained(directory)
    shutil.copytree(shards / "tokenizer", directory, dirs_exist_ok=True)
    return directory
