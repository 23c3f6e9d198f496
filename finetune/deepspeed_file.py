"""A user's DeepSpeed JSON -> what the Trainer takes, without what would silently take the place of `training.…`."""

import json
from pathlib import Path
from typing import Any

from finetune.reading.text_file import read_text_file

OURS = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
"""Values that follow from `training.…`. DeepSpeed takes its own where a file has none: it would not clip, for one."""

STAGES = (1, 2)


def read_deepspeed_file(path: Path) -> dict[str, Any]:
    """Return the settings of a file, `"auto"` for those that are ours and that it does not name.

    Raises ValueError when it is no JSON object, has an optimizer or a scheduler of its own, or another stage than 1
    or 2.
    """
    try:
        content = json.loads(read_text_file("deepspeed", path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
    if not isinstance(content, dict):
        raise ValueError(f"deepspeed={path} holds a JSON {type(content).__name__}; a DeepSpeed file is an object")
    for section, keys in (
        ("optimizer", "training.learning_rate, training.weight_decay and training.layer_decay"),
        ("scheduler", "training.lr_schedule and training.warmup_ratio"),
    ):
        if section in content:
            raise ValueError(
                f'deepspeed={path} has "{section}", which would take the place of {keys}; remove it from the file'
            )
    zero = content.get("zero_optimization")
    stage = zero.get("stage", 0) if isinstance(zero, dict) else None
    if stage not in STAGES:
        raise ValueError(
            f"deepspeed={path} has zero_optimization.stage={stage!r}; write 1 or 2 (0 shards nothing, for which no "
            "DeepSpeed is needed; 3 shards parameters too, whose shapes then say no more which of them decay)"
        )
    return dict.fromkeys(OURS, "auto") | content
