"""Start, go on with or rewind the Weights & Biases run of a training; without a server it becomes an offline one."""

import logging
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import wandb

from pretrain.tracking_config import TrackingConfig, WandbMode

INIT_TIMEOUT_SECONDS = 30.0
FLUSH_SECONDS = 1.0  # wandb's service keeps so much of a run in memory, and a kill -9 loses it
FINISH_TIMEOUT_SECONDS = 30.0  # a preempted job has to leave; what is not sent by then stays on disk for `wandb sync`

logger = logging.getLogger(__name__)


def start_run(
    config: TrackingConfig, *, run_dir: Path, run_id: str, run_config: dict[str, Any], rewind_to: int | None
) -> tuple[Any, bool]:
    """Return the started `wandb.Run`, and whether its history was cut back to the step `rewind_to`, if there is one.

    A server that cannot cut it, or does not answer, costs a warning each; in the second case the run is offline.
    Raises ValueError without a valid key.
    """
    arguments = _arguments(config, run_dir, run_id) | {
        "name": config.wandb_name,
        "config": run_config,
        "allow_val_change": True,  # max_steps and others may differ on resume
    }
    if rewind_to is not None:
        run = _rewind(arguments, f"{run_id}?_step={rewind_to}")
        if run is not None:
            return run, True
    return _go_on(config, arguments | {"resume": "allow"}, run_dir), False


def join_run(config: TrackingConfig, *, run_dir: Path, run_id: str, is_over: bool) -> Any:
    """Return the `wandb.Run` of a training, to add something to it from beside: what the training reports stays.

    `is_over` says whether the training has ended: only then may the run be finished again. A server that does not
    answer costs a warning, and the run is offline. Raises ValueError without a valid key.
    """
    aside: dict[str, Any] = {
        "x_primary": False,  # config, summary and metadata files stay
        "x_update_finish_state": is_over,
        "x_disable_stats": True,
        "x_disable_meta": True,
        "disable_git": True,
        "host": "",
        "program": "",
        "stop_fn": lambda: None,  # the button stops the training, not this
    }
    return _go_on(config, _arguments(config, run_dir, run_id) | {"resume": "allow"}, run_dir, **aside)


def define_steps(run: Any) -> None:
    """Have every metric shown over the optimizer step. Whoever opens the run does so: the last one's word counts."""
    run.define_metric("step")
    run.define_metric("*", step_metric="step")


def require_key() -> None:
    """Raise ValueError if no key is set; `wandb.init` would ask for one and wait, with every other rank waiting too."""
    _quiet()
    try:
        found = wandb.login(prompt=False, verify=False)
    except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
        raise _key_error(str(error)) from error
    if not found:
        raise _key_error("no API key was found")


def kill_service() -> None:
    """End wandb's service where it hangs: whoever waits for it would do so without end, wandb when Python exits too."""
    for child in psutil.Process().children():
        if child.name() == "wandb-core":
            child.kill()


def first_line(error: BaseException) -> str:
    """Return what a message says first, or the name of its error."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _arguments(config: TrackingConfig, run_dir: Path, run_id: str) -> dict[str, Any]:
    """Return what `wandb.init` needs for any use of the run, once wandb is silent and has a key."""
    run_dir.mkdir(parents=True, exist_ok=True)
    _quiet()
    if config.wandb is WandbMode.online:
        require_key()
    return {"project": config.wandb_project, "id": run_id, "dir": str(run_dir)}


def _rewind(arguments: dict[str, Any], resume_from: str) -> Any:
    """Return the run, its history cut back to `ID?_step=STEP`; None when that is not possible."""
    try:
        return _init(WandbMode.online, arguments | {"resume_from": resume_from})
    except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
        raise _key_error(str(error)) from error
    except wandb.Error as error:
        logger.warning(
            "tracking.rewind=true, but W&B cannot rewind (%s): steps that run again are not shown to it.",
            first_line(error),
        )
        _forget_start()
        return None


def _go_on(config: TrackingConfig, arguments: dict[str, Any], run_dir: Path, **settings: Any) -> Any:
    """Return the run, an offline one where the server does not answer."""
    try:
        return _init(config.wandb, arguments, **settings)
    except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
        raise _key_error(str(error)) from error
    except wandb.Error as error:
        if config.wandb is WandbMode.offline:
            raise ValueError(
                f"tracking.wandb=offline cannot start ({first_line(error)}); take tracking.wandb=disabled"
            ) from error
        logger.warning(
            "W&B cannot be reached (%s). Nothing waits for it; what it is to show is kept in %s and goes to the server "
            "with `wandb sync`.",
            first_line(error),
            run_dir / "wandb",
        )
        _forget_start()
        return _init(WandbMode.offline, arguments, **settings)


def _init(mode: WandbMode, arguments: dict[str, Any], **settings: Any) -> Any:
    # New settings each time: it writes arguments into them.
    return wandb.init(mode=mode.value, settings=_settings(**settings), **arguments)


def _forget_start() -> None:
    """End wandb's service: it holds a start that failed, and with it the run's id, and goes on asking the server."""
    with suppress(SystemExit):  # it leaves with the service's exit code when that is not 0
        wandb.teardown()
    kill_service()
    _quiet()


def _settings(**more: Any) -> wandb.Settings:
    settings: dict[str, Any] = {
        "silent": True,
        "console": "off",  # progress bars are no console log
        "init_timeout": INIT_TIMEOUT_SECONDS,
        "finish_timeout": FINISH_TIMEOUT_SECONDS,
        "x_transaction_log_flush_interval": FLUSH_SECONDS,  # 15 by default
        # The stop button of the web page: by default an interrupt of rank 0 alone, here the stop all ranks agree on.
        "stop_fn": lambda: os.kill(os.getpid(), signal.SIGTERM),
    }
    return wandb.Settings(**(settings | more))


def _quiet() -> None:
    """Silence wandb in this process until its next teardown: login and run print lines of their own.

    Its reports on its own errors are off unless the user has turned them on: with a server that hangs they hold up the
    exit of the process for 30 s.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    wandb.setup(settings=wandb.Settings(silent=True))


def _key_error(reason: str) -> ValueError:
    return ValueError(
        f"tracking.wandb=online is not possible: {reason}; run `wandb login` once or set WANDB_API_KEY (and no "
        "WANDB_MODE), or take tracking.wandb=offline or tracking.wandb=disabled"
    )
