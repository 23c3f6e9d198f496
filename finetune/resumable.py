"""A fine-tuning that is done once: a folder that has its results is read, one that was cut off is begun again."""

import shutil
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from conf.compose import flatten, to_dict
from finetune.config import FinetuneConfig
from finetune.origins import REMEDY, require_same_files
from finetune.results import RESULTS_FILE, Results, read_results
from finetune.run import CONFIG_FILE, finetune


def finetune_once(config: FinetuneConfig) -> Results:
    """Return the results of a fine-tuning, from its folder where it is done.

    Raises ValueError when the folder is of one with other settings, or of files whose content was another, naming the
    first that differs.
    """
    output_dir = Path(config.output_dir)
    if not (output_dir / CONFIG_FILE).is_file():
        return finetune(config)
    _require_same(config, output_dir)
    require_same_files(config, output_dir)
    if (output_dir / RESULTS_FILE).is_file():
        print(f"{output_dir} is done already", flush=True)
        return read_results(output_dir)
    print(f"{output_dir} was cut off; it begins again", flush=True)
    shutil.rmtree(output_dir)
    return finetune(config)


def _require_same(config: FinetuneConfig, output_dir: Path) -> None:
    before = flatten(yaml.safe_load((output_dir / CONFIG_FILE).read_text(encoding="utf-8")))
    now = flatten(to_dict(config))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise ValueError(
                f"{output_dir} was made with {key}={before.get(key)}, and now it is {now.get(key)}; {REMEDY}"
            )
