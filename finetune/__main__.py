"""`python -m finetune task=… model=DIR train_file=… eval_file=… output_dir=DIR`: fine-tune, evaluate, predict."""

import sys
from collections.abc import Sequence

from finetune.config import compose_finetune
from finetune.entry import FINETUNE_EXTRA, exit_code, require_installed


def main(arguments: Sequence[str]) -> int:
    """Fine-tune; return the exit code: 0, 2 for a mistake that the message names, 1 when a training diverged."""

    def work() -> None:
        config = compose_finetune(arguments)
        require_installed(FINETUNE_EXTRA, "finetune")
        from finetune.run import finetune  # ten seconds of imports, which a wrong argument need not wait for

        finetune(config)

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
