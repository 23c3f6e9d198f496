"""The config of a comparison; defaults are in `conf/finetune/compare.yaml`."""

from dataclasses import dataclass
from typing import Any

from conf.checks import require

ALL = "all"


@dataclass(kw_only=True, slots=True)
class CompareConfig:
    """Which checkpoints of which run."""

    run_dir: str
    steps: Any  # "all", or a list of steps

    def __post_init__(self) -> None:
        steps = self.steps
        listed = isinstance(steps, list) and bool(steps) and all(type(step) is int and step >= 0 for step in steps)
        require(steps == ALL or listed, "steps", steps, "all, or a list of steps, as [1000,2000]")
