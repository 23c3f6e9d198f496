"""An exported model as an artifact of its training's W&B run: references to files, and no line in its history."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import wandb

from pretrain.track.background import Background
from pretrain.track.run_files import STATUS_FILE, ensure_run_id
from pretrain.track.wandb_start import (
    FINISH_TIMEOUT_SECONDS,
    INIT_TIMEOUT_SECONDS,
    define_steps,
    first_line,
    join_run,
    kill_service,
)
from pretrain.tracking_config import TrackingConfig

LEAVE_SECONDS = 60.0  # beyond what wandb grants itself: it reads the files once, for their checksums
EXIT_CODES = {"done": 0, "stopped": 0, "failed": 1}  # of a training that has ended, by its status.json


def list_export(
    config: TrackingConfig, *, run_dir: Path, model_dir: Path, tag: str, metadata: Mapping[str, int | float]
) -> str:
    """List `model_dir`, exported from the checkpoint `tag`, in the W&B run of `run_dir`; return a line on how it went.

    The artifact is `model-RUN_ID`, of type `model`; no byte of the files is sent. A server that does not
    answer has it kept for `wandb sync`. W&B that fails costs a line that begins with WARNING; one that hangs costs it
    after `INIT_TIMEOUT_SECONDS + FINISH_TIMEOUT_SECONDS + 2 * LEAVE_SECONDS` at the latest.
    """
    told: list[str] = []
    thread = Background("wandb-export", most_waiting=1)
    thread.submit(lambda: told.append(_attempt(config, run_dir, model_dir, tag, metadata)))
    if not thread.finish(INIT_TIMEOUT_SECONDS + FINISH_TIMEOUT_SECONDS + LEAVE_SECONDS):
        kill_service()  # what the thread waits for fails now, and it says so
        thread.finish(LEAVE_SECONDS)
    return told[0] if told else _warning(model_dir, "its service does not answer")


def _attempt(
    config: TrackingConfig, run_dir: Path, model_dir: Path, tag: str, metadata: Mapping[str, int | float]
) -> str:
    try:
        exit_code = EXIT_CODES.get(_state(run_dir))
        run = join_run(config, run_dir=run_dir, run_id=ensure_run_id(run_dir), is_over=exit_code is not None)
        define_steps(run)
        artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=dict(metadata))
        artifact.add_reference(model_dir.resolve().as_uri())
        logged = run.log_artifact(artifact, aliases=["latest", tag])
        if not run.offline:
            logged.wait(timeout=round(FINISH_TIMEOUT_SECONDS))
        run.finish(exit_code=exit_code)
    except Exception as error:  # no key, no rights to artifacts, a full disk, or wandb itself
        with suppress(Exception):  # else it raises the same again when Python exits
            wandb.teardown()
        return _warning(model_dir, first_line(error))
    sent = f"; `wandb sync` sends it from {run_dir / 'wandb'}" if run.offline else ""
    return f"listed by W&B as model-{run.id}:{tag}{sent}"


def _state(run_dir: Path) -> str:
    """Return the `state` of status.json; of a training killed long ago it is `running` too."""
    path = run_dir / STATUS_FILE
    return str(json.loads(path.read_bytes()).get("state")) if path.is_file() else ""


def _warning(model_dir: Path, reason: str) -> str:
    return f"WARNING: W&B does not list {model_dir} as an artifact: {reason}"
