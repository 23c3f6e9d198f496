"""`python -m finetune.compare run_dir=RUN steps=all task=… train_file=… … output_dir=DIR`: does pretraining pay?"""

import sys
from collections.abc import Sequence
from dataclasses import fields

from conf.compose import compose
from finetune.compare_config import CompareConfig
from finetune.config import CONF_PACKAGE, compose_finetune
from finetune.entry import FINETUNE_EXTRA, exit_code, require_installed, require_one_process


def main(arguments: Sequence[str]) -> int:
    """Compare; return the exit code: 0, 2 for a mistake that the message names, 1 when a training diverged."""

    def work() -> None:
        names = {field.name for field in fields(CompareConfig)}
        own = [argument for argument in arguments if argument.partition("=")[0] in names]
        rest = [argument for argument in arguments if argument not in own]
        config = compose("compare", CompareConfig, own, package=CONF_PACKAGE)
        if any(argument.partition("=")[0] == "model" for argument in rest):
            raise ValueError(
                "model is not a key of finetune.compare, which takes the checkpoints of run_dir; remove it"
            )
        shared = compose_finetune([*rest, "model=checkpoints"])
        require_one_process("python -m finetune.compare")
        require_installed(FINETUNE_EXTRA, "finetune")
        from finetune.comparison import compare  # ten seconds of imports, which a wrong argument need not wait for

        compare(config, shared)

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
