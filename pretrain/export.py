"""`python -m pretrain.export run_dir=DIR output_dir=DIR [tag=step-00000500]`: a run -> a checked Hugging Face model."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from transformers.utils import logging as transformers_logging

from conf.checks import require_vacant
from conf.compose import compose
from pretrain.checkpoint.restore import load_full_weights, newest_checkpoint, read_checkpoint
from pretrain.distillation.student import without_projections
from pretrain.model.hf_directory import export_model
from pretrain.model_card import model_card
from pretrain.saved_config import read_model, read_section
from pretrain.track.metrics_file import METRICS_FILE, read_metrics
from pretrain.track.run_files import CONFIG_FILE, DATA_FILE, TOKENIZER_DIR
from pretrain.tracking_config import TrackingConfig


@dataclass(kw_only=True, slots=True)
class ExportConfig:
    """What to export. A null `tag` takes the newest complete checkpoint."""

    run_dir: str
    output_dir: str
    tag: str | None


def main(arguments: Sequence[str]) -> int:
    """Export; return the exit code: 0, 2 when the user can mend it, 1 when transformers computes something else."""
    transformers_logging.disable_progress_bar()
    try:
        config = compose("export", ExportConfig, arguments)
        export_run(Path(config.run_dir), Path(config.output_dir), config.tag)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def export_run(run_dir: Path, output_dir: Path, tag: str | None) -> None:
    """Export one checkpoint of a run and say so. Raises ValueError naming the file or directory that is not right."""
    require_vacant("output_dir", output_dir)
    model = read_model(run_dir)
    checkpoint = newest_checkpoint(run_dir) if tag is None else run_dir / "checkpoints" / tag
    state = read_checkpoint(checkpoint).state
    progress = {"step": state.step, "sequences_seen": state.sequences_seen, "tokens_seen": state.tokens_seen}
    card = model_card(
        model, progress=progress, data=read_data(run_dir), metrics=held_out_metrics_at(run_dir, state.step)
    )
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    weights = without_projections(load_full_weights(checkpoint))
    difference = export_model(weights, model, run_dir / TOKENIZER_DIR, output_dir, card)
    print(
        f"exported {checkpoint} to {output_dir}; reloaded with transformers, "
        f"its logits differ from ours by at most {difference:.2g}"
    )
    list_in_tracker(run_dir, output_dir, checkpoint.name, progress)


def list_in_tracker(run_dir: Path, output_dir: Path, tag: str, progress: Mapping[str, int]) -> None:
    """List an exported model where the run is tracked, if `tracking.artifacts` says so, and print how that went.

    The export is done and checked by then: what goes wrong here costs a warning.
    """
    if OmegaConf.select(OmegaConf.load(run_dir / CONFIG_FILE), "tracking.artifacts") is None:
        return  # a run of a release that had no such key
    try:
        tracking = read_section(run_dir, "tracking", TrackingConfig)
    except ValueError as error:
        print(f"WARNING: the export is not listed by a tracker: {error}", file=sys.stderr)
        return
    if tracking.artifacts.has_exports:
        from pretrain.track.wandb_export import list_export  # seconds to import

        told = list_export(tracking, run_dir=run_dir, model_dir=output_dir, tag=tag, metadata=progress)
        print(told, file=sys.stderr if told.startswith("WARNING") else sys.stdout)


def read_data(run_dir: Path) -> list[dict[str, Any]]:
    """Return what RUN_DIR/data.json says of the data of each phase; nothing when there is no such file."""
    path = run_dir / DATA_FILE
    if not path.is_file():
        return []
    phases: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return phases


def held_out_metrics_at(run_dir: Path, step: int) -> dict[str, Any]:
    """Return the last metrics line up to `step` that has a held-out evaluation; empty when none was made."""
    path = run_dir / METRICS_FILE
    lines = read_metrics(path) if path.is_file() else []
    evaluated = [line for line in lines if "held_out_loss" in line and int(line["step"] or 0) <= step]
    return dict(evaluated[-1]) if evaluated else {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
