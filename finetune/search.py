"""`python -m finetune.search task=… model=DIR … 'training.learning_rate=tag(log, interval(1e-5, 1e-3))'`: the best."""

import sys
from collections.abc import Sequence

from conf.sweep import find_ranges
from finetune.config import compose_finetune
from finetune.entry import FINETUNE_EXTRA, SEARCH_EXTRA, exit_code, require_installed, require_one_process


def main(arguments: Sequence[str]) -> int:
    """Search; return the exit code: 0, 2 for a mistake that the message names, 1 when every training diverged."""

    def work() -> None:
        fixed, ranges = find_ranges(arguments)
        if not ranges:
            raise ValueError(
                "nothing to search: give at least one key a range, as "
                "'training.learning_rate=tag(log, interval(1e-5, 1e-3))' or 'training.layer_decay=choice(0.8, 1.0)'"
            )
        twice = {line.partition("=")[0] for line in fixed} & {line.partition("=")[0] for line in ranges}
        if twice:
            raise ValueError(f"{min(twice)} has a value and a range; keep one of them")
        config = compose_finetune(fixed)  # what every trial needs is checked before the first one
        require_one_process("python -m finetune.search")
        require_installed(FINETUNE_EXTRA, "finetune")
        require_installed(SEARCH_EXTRA, "search")
        from finetune.trials import search  # ten seconds of imports, which a wrong argument need not wait for

        search(config, arguments)

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
