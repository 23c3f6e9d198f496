"""The files of a run directory that describe the run: config, data and tokenizer. Rank 0 writes them at every start."""

import json
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from data_prep.atomic_file import write_atomically
from data_prep.manifest import Manifest
from pretrain.data.reader import ShardDirectory
from pretrain.track.run_files import CONFIG_FILE, DATA_FILE, TOKENIZER_DIR, ensure_run_id, record_initial_weights


def prepare_run_directory(
    run_dir: Path,
    config: dict[str, Any],
    shards: list[ShardDirectory],
    manifests: list[Manifest],
    *,
    initial_weights: dict[str, str] | None = None,
) -> None:
    """Write what describes the run, each file atomically. Raises OSError naming the directory when it cannot.

    `initial_weights` are file and sha256 of those that `model.init_from` gave; they stay in run.json.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        ensure_run_id(run_dir)
        if initial_weights is not None:
            record_initial_weights(run_dir, initial_weights)
        write_atomically(run_dir / CONFIG_FILE, OmegaConf.to_yaml(OmegaConf.create(config)).encode())
        data = [
            {
                "shards_dir": directory.url,
                "manifest_sha256": manifest.fingerprint(),
                "data_prep": manifest.config,
                "statistics": manifest.statistics,
                "sequences": {split: manifest.num_sequences(split) for split in manifest.splits},
            }
            for directory, manifest in zip(shards, manifests, strict=True)
        ]
        write_atomically(run_dir / DATA_FILE, json.dumps(data, indent=1, ensure_ascii=False).encode())
        shards[0].copy_tokenizer(manifests[0], run_dir / TOKENIZER_DIR)
    except OSError as error:
        raise OSError(
            f"run_dir={run_dir}: cannot write there ({error}); name a directory that can be written"
        ) from error
