"""One Weights & Biases run for the life of a training. Trouble with it, at any time, never stops the training."""

import logging
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import wandb

from pretrain.config import TrackingConfig, WandbMode

INIT_TIMEOUT_SECONDS = 30.0
FINISH_TIMEOUT_SECONDS = 30.0  # a preempted job has to leave; what is not sent by then stays on disk for `wandb sync`

logger = logging.getLogger(__name__)


class WandbTracker:
    """History of a run in `RUN_DIR/wandb` and, online, on the server. Steps never go back."""

    def __init__(
        self, config: TrackingConfig, *, run_dir: Path, run_id: str, run_config: dict[str, Any], last_step: int
    ) -> None:
        """Start or continue run `run_id`; `last_step` is the last one logged earlier. Raises ValueError without a key.

        A server that does not answer turns this start into an offline one, with a warning that says how to send it.
        """
        self._run = _start(config, run_dir=run_dir, run_id=run_id, run_config=run_config)
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        # The server's own count is higher where `metrics.jsonl` lost lines to a power cut.
        self._last_step = max(last_step, self._run.step - 1)
        self._broken = False
        if not self._run.offline:
            logger.info("W&B run: %s", self._run.url)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add a step to the history, unless it, or a later one, was logged already."""
        if self._broken or step <= self._last_step:
            return
        self._last_step = step
        try:
            self._run.log({"step": step, **values}, step=step)
        except Exception as error:  # a dead service raises what is no wandb.Error: HandleAbandonedError, say
            self._give_up(error)

    def close(self, *, failed: bool) -> None:
        """Send what is left, for at most `FINISH_TIMEOUT_SECONDS`."""
        if self._broken:
            return
        try:
            self._run.finish(exit_code=int(failed))
        except Exception as error:  # a dead service raises what is no wandb.Error: HandleAbandonedError, say
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._broken = True
        logger.warning(
            "W&B stopped working at step %d (%s). The training goes on without it; metrics.jsonl has every step.",
            self._last_step,
            _first_line(error),
        )
        # Now, or it raises the same again when Python exits, and prints a stack of 20 lines.
        with suppress(Exception):
            wandb.teardown()


def _start(config: TrackingConfig, *, run_dir: Path, run_id: str, run_config: dict[str, Any]) -> Any:
    """Return the started `wandb.Run`, an offline one where the server does not answer."""
    run_dir.mkdir(parents=True, exist_ok=True)
    _quiet()
    if config.wandb is WandbMode.online:
        _require_key()
    arguments: dict[str, Any] = {
        "project": config.wandb_project,
        "name": config.wandb_name,
        "id": run_id,
        "resume": "allow",
        "dir": str(run_dir),
        "config": run_config,
        "allow_val_change": True,  # max_steps and others may differ on resume
        "settings": _settings(),
    }
    try:
        return wandb.init(mode=config.wandb.value, **arguments)
    except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
        raise _key_error(str(error)) from error
    except wandb.Error as error:
        if config.wandb is WandbMode.offline:
            raise ValueError(
                f"tracking.wandb=offline cannot start ({_first_line(error)}); take tracking.wandb=disabled"
            ) from error
        logger.warning(
            "W&B cannot be reached (%s). The training goes on; its history is kept in %s and goes to the server "
            "with `wandb sync`.",
            _first_line(error),
            run_dir / "wandb",
        )
        wandb.teardown()  # its service holds the failed start, and with it the run's id
        _quiet()
        return wandb.init(mode=WandbMode.offline.value, **arguments)


def _settings() -> wandb.Settings:
    return wandb.Settings(
        silent=True,
        console="off",  # progress bars are no console log
        init_timeout=INIT_TIMEOUT_SECONDS,
        finish_timeout=FINISH_TIMEOUT_SECONDS,
        # The stop button of the web page: by default an interrupt of rank 0 alone, here the stop all ranks agree on.
        stop_fn=lambda: os.kill(os.getpid(), signal.SIGTERM),
    )


def _quiet() -> None:
    """Silence wandb in this process until its next teardown: login and run print lines of their own."""
    wandb.setup(settings=wandb.Settings(silent=True))


def _require_key() -> None:
    """Raise ValueError if no key is set; `wandb.init` would ask for one and wait, with every other rank waiting too."""
    try:
        found = wandb.login(prompt=False, verify=False)
    except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
        raise _key_error(str(error)) from error
    if not found:
        raise _key_error("no API key was found")


def _key_error(reason: str) -> ValueError:
    return ValueError(
        f"tracking.wandb=online is not possible: {reason}; run `wandb login` once or set WANDB_API_KEY (and no "
        "WANDB_MODE), or take tracking.wandb=offline or tracking.wandb=disabled"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
