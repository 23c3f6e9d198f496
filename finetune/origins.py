"""What a fine-tuning was made of: the sha256 of its files, on record beside its results.

Names of files and folders stay when their content changes; a result that is read again must be of the same content.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from finetune.config import FinetuneConfig
from finetune.model_directory import TOKENIZER_FILES

ORIGINS_FILE = "origins.json"
REMEDY = "name another output_dir, or remove that folder"
"""Of a folder that holds results of something else."""

_MODEL_FILES = ("config.json", *TOKENIZER_FILES, "*.safetensors", "*.bin")


def find_origins(config: FinetuneConfig) -> dict[str, str]:
    """Return the sha256 (hex) of the files that decide what is learned and scored, by key: of a model file by file.

    What is not there is left out: whoever reads it says so.
    """
    named = {key: getattr(config, key) for key in ("train_file", "eval_file", "test_file", "deepspeed")}
    paths = {f"{key}={name}": Path(name) for key, name in named.items() if name is not None}
    found = {path for pattern in _MODEL_FILES for path in Path(config.model).glob(pattern)}
    paths |= {f"model={path}": path for path in found}
    return {key: hash_file(path) for key, path in sorted(paths.items()) if path.is_file()}


def hash_file(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_origins(path: Path, origins: dict[str, Any]) -> None:
    """Write a record of origins, whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(origins, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_origins(path: Path) -> dict[str, Any]:
    """Return a record of origins. Raises ValueError when there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path.parent} does not say of which files it was made: {path.name} is not there, or damaged; {REMEDY}"
        )
    return content


def require_same_files(config: FinetuneConfig, output_dir: Path) -> None:
    """Raise ValueError naming the first file whose content is not that of which `output_dir` was made."""
    before, now = read_origins(output_dir / ORIGINS_FILE), find_origins(config)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            was, is_now = (_shown(origins.get(key)) for origins in (before, now))
            raise ValueError(f"{output_dir} was made of {key} {was}, and now there is {is_now}; {REMEDY}")


def _shown(sha256: str | None) -> str:
    return "(no such file)" if sha256 is None else f"(sha256 {sha256[:12]}…)"
