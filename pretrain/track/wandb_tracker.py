"""One Weights & Biases run for the life of a training. Trouble with it never stops or slows the training."""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import wandb

from pretrain.track.background import Background
from pretrain.track.metrics_file import LoggedSteps
from pretrain.track.wandb_start import FINISH_TIMEOUT_SECONDS, define_steps, first_line, kill_service, start_run
from pretrain.tracking_config import TrackingConfig

MOST_WAITING_LINES = 10_000
MOST_WAITING_CHECKPOINTS = 100
LEAVE_SECONDS = 5.0  # beyond what wandb grants itself

logger = logging.getLogger(__name__)


class WandbTracker:
    """History of a run in `RUN_DIR/wandb` and, online, on the server. Steps never go back, and none comes twice.

    wandb's calls go to its service, which may hang, and those for artifacts to the server: both wait on threads.
    """

    def __init__(
        self, config: TrackingConfig, *, run_dir: Path, run_id: str, run_config: dict[str, Any], logged: LoggedSteps
    ) -> None:
        """Start or continue run `run_id`, of which `logged` steps are known. Raises ValueError without a key.

        With `tracking.rewind` the history is cut back to the steps that are kept; without it, or where the server
        cannot do that, steps that run again are not shown. A server that does not answer turns this start into an
        offline one, with a warning that says how to send it.
        """
        rewind_to = logged.kept if config.rewind and logged.kept < logged.last else None
        self._run, rewound = start_run(
            config, run_dir=run_dir, run_id=run_id, run_config=run_config, rewind_to=rewind_to
        )
        define_steps(self._run)
        # The server's own count is higher where `metrics.jsonl` lost lines to a power cut.
        self._last_step = max(logged.kept if rewound else logged.last, self._run.step - 1)
        self._broken = False
        self._lists_checkpoints = config.artifacts.has_checkpoints
        self._lines = Background("wandb", most_waiting=MOST_WAITING_LINES)
        self._checkpoints = Background("wandb-artifacts", most_waiting=MOST_WAITING_CHECKPOINTS)
        if not self._run.offline:
            logger.info("W&B run: %s", self._run.url)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add a step to the history, unless it, or a later one, was logged already. It returns at once."""
        if self._broken or step <= self._last_step:
            return
        self._last_step = step
        row = {"step": step, **values}
        # By default wandb keeps a line to itself until a later one comes, and a kill loses it.
        self._hand_over(lambda: self._run.log(row, step=step, commit=True))

    def alert(self, title: str, text: str) -> None:
        """Have W&B tell the people who asked for its alerts."""
        self._hand_over(lambda: self._run.alert(title=title, text=text, level="WARN"))

    def checkpoint(self, tag: Path) -> None:
        """List a complete checkpoint as an artifact, if asked to: file:// references, no bytes."""
        if not self._lists_checkpoints or self._broken:
            return
        if not self._checkpoints.submit(partial(self._list_checkpoint, tag)):
            logger.warning("W&B does not list %s as an artifact: %d others wait", tag.name, MOST_WAITING_CHECKPOINTS)

    def close(self, *, failed: bool) -> None:
        """Send what is left, for at most `FINISH_TIMEOUT_SECONDS` and some."""
        self._checkpoints.finish(LEAVE_SECONDS)
        self._hand_over(lambda: self._run.finish(exit_code=int(failed)))
        if not self._lines.finish(FINISH_TIMEOUT_SECONDS + LEAVE_SECONDS):
            self._give_up("its service does not answer")
            kill_service()
            self._lines.finish(LEAVE_SECONDS)  # what it waits for fails now

    def _hand_over(self, act: Callable[[], object]) -> None:
        """Have `act` done by the thread. What it raises ends the tracking."""

        def attempt() -> None:
            if self._broken:
                return
            try:
                act()
            except Exception as error:  # a dead service raises what is no wandb.Error: HandleAbandonedError, say
                self._give_up(first_line(error))
                # Now, or it raises the same again when Python exits, and prints a stack of 20 lines.
                with suppress(Exception):
                    wandb.teardown()

        if not self._broken and not self._lines.submit(attempt):
            self._give_up(f"its service has not taken {MOST_WAITING_LINES:,} lines")

    def _list_checkpoint(self, tag: Path) -> None:
        try:
            artifact = wandb.Artifact(f"checkpoints-{self._run.id}", type="checkpoint")
            artifact.add_reference(tag.resolve().as_uri(), checksum=False)  # safetensors have sidecars with sha256
            self._run.log_artifact(artifact, aliases=["latest", tag.name])
        except Exception as error:  # pruned meanwhile, no rights to artifacts, or wandb has stopped working
            logger.warning("W&B does not list %s as an artifact: %s", tag.name, first_line(error))

    def _give_up(self, reason: str) -> None:
        if self._broken:
            return
        self._broken = True
        logger.warning(
            "W&B stopped working at step %d (%s). The training goes on without it; metrics.jsonl has every step.",
            self._last_step,
            reason,
        )
