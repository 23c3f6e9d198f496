"""What a run's files say about it -> the README of an exported model."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from pretrain.model_config import ModelConfig

HEADER = """---
library_name: transformers
pipeline_tag: fill-mask
tags:
- {architecture}
- fill-mask
---

"""

USE = """## Use

```python
from transformers import AutoModelForSequenceClassification, pipeline

pipeline("fill-mask", model="PATH_OF_THIS_FOLDER")
AutoModelForSequenceClassification.from_pretrained("PATH_OF_THIS_FOLDER", num_labels=2)  # then fine-tune
```
"""


def model_card(
    model: ModelConfig,
    *,
    progress: Mapping[str, int],
    data: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
) -> str:
    """Return Markdown: architecture, progress (`step`, `sequences_seen`, `tokens_seen`), data and held-out scores.

    `data` is the content of `RUN_DIR/data.json`, one entry per phase; `metrics` is a line of `metrics.jsonl` with
    `held_out_*` values, or empty when the run evaluated nothing.
    """
    lines = [f"# {model.traits.title}, pretrained with Lambert", "", "## Model", ""]
    settings = {name: getattr(model, name) for name in ModelConfig.__dataclass_fields__}
    lines += [f"- {name}: {value}" for name, value in settings.items() if value is not None]
    lines += ["", "## Training", ""]
    lines += [f"- {name.replace('_', ' ')}: {count:,}" for name, count in progress.items()]
    lines += ["", "## Data", ""]
    for entry in data:
        name = PurePosixPath(entry["shards_dir"]).name  # cards get published: no path of a private machine
        lines += [f"- `{name}` (manifest sha256 `{entry['manifest_sha256']}`)"]
        lines += [f"  - {split}: {count:,} sequences" for split, count in entry["sequences"].items()]
        lines += [f"  - {name}: {value}" for name, value in _leaves(entry["statistics"])]
    lines += ["", "## Held-out split", ""]
    scores = {name: value for name, value in metrics.items() if name.startswith("held_out_")}
    lines += [f"- {name.removeprefix('held_out_')}: {value:.4f}" for name, value in scores.items()]
    lines += [f"- measured after step {metrics['step']:,}" if scores else "- not measured"]
    return HEADER.format(architecture=model.architecture.value) + "\n".join(lines) + "\n\n" + USE


def _leaves(statistics: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for name, value in statistics.items():
        label = f"{prefix}{name.replace('_', ' ')}"
        leaves += _leaves(value, f"{label}, ") if isinstance(value, Mapping) else [(label, value)]
    return leaves
