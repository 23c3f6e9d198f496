"""LAMB's trust ratios, one per parameter, as the few numbers that a dashboard can show."""

from collections import defaultdict
from collections.abc import Mapping
from statistics import median

from pretrain.track.metrics import Record


def trust_ratio_metrics(ratios: Mapping[str, float]) -> Record:
    """Return min, median and max of ‖w‖ / ‖u‖ over parameters, and the median by layer, for ratios by parameter name.

    `trust_ratio_min`, `_median`, `_max`; `trust_ratio/layers.3`, `trust_ratio/embeddings`, …: a parameter belongs to
    the encoder layer or else to the part of the model that its name begins with. Nothing without ratios (AdamW, or
    a step that was skipped).
    """
    if not ratios:
        return {}
    by_layer: dict[str, list[float]] = defaultdict(list)
    for name, ratio in ratios.items():
        by_layer[_layer_of(name)].append(ratio)
    values = list(ratios.values())
    record: Record = {
        "trust_ratio_min": min(values),
        "trust_ratio_median": median(values),
        "trust_ratio_max": max(values),
    }
    return record | {f"trust_ratio/{layer}": median(several) for layer, several in by_layer.items()}


def _layer_of(name: str) -> str:
    first, second, *_ = [*name.split("."), ""]
    return f"{first}.{second}" if second.isdecimal() else first
