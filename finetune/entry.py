"""What every command of `finetune` does with mistakes: one message, and an exit code."""

import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from finetune.distributed import this_rank
from finetune.divergence import DivergedError

FINETUNE_EXTRA = ("accelerate", "peft", "seqeval", "sklearn")
"""Modules that `pip install 'lambert-pretraining[finetune]'` brings."""

SEARCH_EXTRA = ("hydra_plugins.hydra_optuna_sweeper", "optuna")

EXIT_FAILURE, EXIT_USER_ERROR = 1, 2


def exit_code(work: Callable[[], None]) -> int:
    """Do the work; return 0, 2 for a mistake that the message names, 1 when a training diverged.

    Anything else, as CUDA out of memory, keeps its traceback.
    """
    try:
        work()
    except (ValueError, OSError) as error:
        _say(error)
        return EXIT_USER_ERROR
    except DivergedError as error:
        _say(error)
        return EXIT_FAILURE
    return 0


def require_installed(modules: Sequence[str], extra: str) -> None:
    """Raise ValueError naming the extra when one of its modules is not there."""
    missing = [name for name in modules if not _is_installed(name)]
    if missing:
        raise ValueError(f"{' and '.join(missing)} not installed; pip install 'lambert-pretraining[{extra}]'")


def require_one_process(command: str) -> None:
    """Raise ValueError under a launcher of several processes."""
    if this_rank().world_size > 1:
        raise ValueError(
            f"{command} runs in one process, and there are {this_rank().world_size}; start it without torchrun"
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a submodule whose package is not there
        return False


def _say(error: Exception) -> None:
    """Print a mistake, once per host: every rank finds the same."""
    if this_rank().local_rank == 0:
        print(f"error: {error}", file=sys.stderr)
