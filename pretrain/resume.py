"""What may differ between a checkpoint and the command that resumes it. Pure."""

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import Any

from conf.compose import flatten

# The top-level keys that the default phase refers to are compared where they are used: in `phases`.
ALIASES = ("shards_dir", "max_steps", "optimizer.learning_rate", "data.*", "lr_schedule.*")

# Nothing of these decides what is computed beyond float rounding; shards are compared by their manifests.
FREE = (
    *ALIASES,
    "run_dir",
    "stop_after",
    "phases.*.shards_dir",
    "phases.*.max_steps",
    "phases.*.data.micro_batch_size",
    "engine.zero_stage",
    "engine.precision",
    "engine.deterministic",
    "engine.collective_timeout_seconds",
    "checkpoint.*",
    "evaluation.*",
    "tracking.*",
    "resume.*",
)

# The position in the data is derived from these, and the weights have the shapes of the model.
FIXED = (
    "seed",
    "model.*",
    "phases.*.data.num_streams",
    "phases.*.data.global_batch_size",
    "manifests.*",
)


def require_resumable(saved: dict[str, Any], current: dict[str, Any], *, allow: Sequence[str], where: str) -> None:
    """Raise ValueError unless a run saved as `saved` may go on as `current` (both: config plus `manifests`).

    Names every key that differs and says whether `resume.allow` can permit it.
    """
    before, now = flatten(saved), flatten(current)
    missing = object()
    changed = [key for key in sorted(before | now) if before.get(key, missing) != now.get(key, missing)]
    relevant = [key for key in changed if not _matches(key, FREE) and key not in allow]
    fixed = [key for key in changed if _matches(key, FIXED)]
    if fixed:
        raise ValueError(
            f"{where} is a run of another kind: {_differences(fixed, before, now)}. "
            "These cannot change within a run; name another run_dir, or go back to the old values"
        )
    if relevant:
        raise ValueError(
            f"{where} was trained with another config: {_differences(relevant, before, now)}. "
            f"Go back to the old values, or permit the change with resume.allow=[{','.join(relevant)}]"
        )


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(key, pattern) for pattern in patterns)


def _differences(keys: Sequence[str], before: dict[str, Any], now: dict[str, Any]) -> str:
    shown = [f"{key} was {before.get(key)!r}, now {now.get(key)!r}" for key in keys[:5]]
    return "; ".join(shown) + (f"; and {len(keys) - 5} more" if len(keys) > 5 else "")
