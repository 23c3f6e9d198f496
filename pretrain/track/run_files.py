"""The names of a run directory's files, and the run's id in `run.json`: trackers know a training by it."""

import json
import secrets
from pathlib import Path

from data_prep.atomic_file import write_atomically

RUN_FILE = "run.json"
CONFIG_FILE = "config.yaml"
DATA_FILE = "data.json"
STATUS_FILE = "status.json"
TOKENIZER_DIR = "tokenizer"


def ensure_run_id(run_dir: Path) -> str:
    """Return the id of this training, 16 hex digits, from `RUN_DIR/run.json`; the first call makes it.

    Trackers know the run by it for all its life. Raises ValueError when the file is there but holds no id.
    """
    path = run_dir / RUN_FILE
    if not path.exists():
        run_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"run_id": secrets.token_hex(8)}).encode() + b"\n")
    try:
        run_id = json.loads(path.read_bytes())["run_id"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} holds no run_id ({error}); put the id of the tracked run back as "
            '{"run_id": "..."}, or delete the file to go on under a new one'
        ) from error
    if not isinstance(run_id, str) or not run_id:
        raise ValueError(f"{path}: run_id={run_id!r} is not valid: a text of at least one character")
    return run_id


def record_initial_weights(run_dir: Path, initial_weights: dict[str, str]) -> None:
    """Write into `RUN_DIR/run.json`, which is there, which weights a run began with: `weights_file` and `sha256`."""
    path = run_dir / RUN_FILE
    values = json.loads(path.read_bytes())
    write_atomically(path, json.dumps(values | {"initial_weights": initial_weights}).encode() + b"\n")
