"""`python -m tests.integration.misbehaving_rank RANK HOW …`: the training command, but one rank fails in step 3.

HOW: raise (a bug), exit (kill -9), freeze (kill -STOP), sleep (20 s); or join, to be killed while the ranks join.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import pretrain.__main__ as command
from pretrain import agreement

STEP = 3


def raise_a_bug() -> None:
    raise TypeError("a bug in one rank")


def sleep_too_long() -> None:
    time.sleep(20)


HOW = {
    "raise": raise_a_bug,
    "exit": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "freeze": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "sleep": sleep_too_long,
}


def main(rank: str, how: str, *arguments: str) -> int:
    """Run the command."""
    run_steps = command.run_steps
    if how == "join" and os.environ["RANK"] == rank:
        agreement.require_same_code = lambda ranks: HOW["exit"]()

    def failing_steps(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for result in run_steps(*args, **kwargs):
            yield result
            if result.state.step == STEP - 1 and os.environ["RANK"] == rank:
                HOW[how]()

    command.run_steps = failing_steps
    return command.main(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
