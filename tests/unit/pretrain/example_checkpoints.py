"""A run directory with checkpoints and a tokenizer, as an export finds it, without a training."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from conf.compose import to_dict
from data_prep.tokenizer import save_tokenizer, wordpiece_tokenizer
from pretrain.checkpoint.fragments_file import StoredFragment, stored_file_values, write_fragments
from pretrain.checkpoint.save import CHECKPOINT_VERSION, COMPLETE_NAME
from pretrain.model_config import ModelConfig
from pretrain.phases import RunState
from pretrain.track.run_files import ensure_run_id
from tests.models import build_model

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "ship", "left", "har", "##bour", "at", "dawn", "nobody", "saw", "it", "again", "good", "bad", ".", "一"]


def write_tokenizer(directory: Path) -> Path:
    """Write a tokenizer of those words and return its directory."""
    save_tokenizer(wordpiece_tokenizer(SPECIAL + WORDS, lowercase=True, source="the test"), directory)
    return directory


def write_run(
    run_dir: Path, config: ModelConfig, tokenizer_dir: Path, steps: tuple[int, ...], **sections: dict[str, Any]
) -> None:
    """Write a run with a checkpoint per step; the seed of its weights is the step. `sections` belong to its config."""
    (run_dir / "tokenizer").mkdir(parents=True)
    for file in tokenizer_dir.iterdir():
        (run_dir / "tokenizer" / file.name).write_bytes(file.read_bytes())
    ensure_run_id(run_dir)
    OmegaConf.save({"model": to_dict(config), "seed": 0, **sections}, run_dir / "config.yaml")
    data = {"shards_dir": "/home/me/shards_128", "manifest_sha256": "0af3", "sequences": {"train": 1200}}
    (run_dir / "data.json").write_text(json.dumps([data | {"statistics": {"documents": {"kept": 7}}}]))
    lines = [{"step": 3, "held_out_loss": 2.5, "held_out_mlm_accuracy": 0.25}, {"step": 4, "loss": 1.0}]
    lines += [{"step": 9, "held_out_loss": 1.5}]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step in steps:
        directory = run_dir / "checkpoints" / f"step-{step:08d}"
        directory.mkdir(parents=True)
        model = build_model(config, seed=step)
        flat = {name: parameter.detach().flatten() for name, parameter in model.named_parameters()}
        fragments = [StoredFragment(name=name, start=0, numel=len(flat[name]), updates=0) for name in flat]
        file = write_fragments(directory, 0, fragments, {f"{name}/fp32": flat[name] for name in flat})
        content = {
            "checkpoint_version": CHECKPOINT_VERSION,
            "state": asdict(RunState(step=step, sequences_seen=64 * step, tokens_seen=1024 * step)),
            "shapes": {name: list(parameter.shape) for name, parameter in model.named_parameters()},
            "files": [stored_file_values(file)],
            "run": {},
        }
        (directory / COMPLETE_NAME).write_text(json.dumps(content))
