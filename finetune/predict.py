"""`python -m finetune.predict model=DIR input=FILE|- [output=FILE] [report_dir=DIR]`: predictions as JSON Lines."""

import sys
from collections.abc import Sequence

from conf.compose import compose
from finetune.config import CONF_PACKAGE
from finetune.entry import FINETUNE_EXTRA, exit_code, require_installed
from finetune.predict_config import PredictConfig


def main(arguments: Sequence[str]) -> int:
    """Predict; return the exit code: 0, or 2 for a mistake that the message names."""

    def work() -> None:
        config = compose("predict", PredictConfig, arguments, package=CONF_PACKAGE)
        require_installed(FINETUNE_EXTRA, "finetune")
        from finetune.prediction import predict_file  # seconds of imports, which a wrong argument need not wait for

        predict_file(config)

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
