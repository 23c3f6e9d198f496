"""What may differ between a checkpoint and the command that resumes it. Pure."""

from collections.abc import Sequence
from fnmatch import fnmatch
from itertools import accumulate
from typing import Any

from conf.compose import differing, flatten

# The top-level keys that the default phase refers to are compared where they are used: in `phases`.
ALIASES = ("shards_dir", "max_steps", "optimizer.learning_rate", "data.*", "lr_schedule.*")

# Nothing of these decides what is computed beyond float rounding; shards are compared by their manifests, and a
# teacher by the sha256 of its weights.
FREE = (
    *ALIASES,
    "run_dir",
    "stop_after",
    "max_minutes",
    "stop_exit_code",
    "max_bad_steps",
    "phases.*.shards_dir",
    "phases.*.max_steps",
    "phases.*.data.micro_batch_size",
    "engine.zero_stage",
    "engine.precision",
    "engine.offload_optimizer",
    "engine.sub_group_size",
    "engine.param_persistence_threshold",
    "engine.initial_loss_scale_power",
    "engine.activation_checkpointing",
    "engine.deterministic",
    "engine.collective_timeout_seconds",
    "checkpoint.*",
    "evaluation.*",
    "distillation.teacher",
    "tracking.*",
    "profile.*",
    "resume.*",
)

# What runs did before releases that gave it a key.
BEFORE = {
    "model.architecture": "bert",
    "model.embedding_size": None,
    "model.init_from": None,
    "model.extend_vocabulary": False,
    "distillation.teacher": None,
    "distillation.temperature": 1.0,
    "distillation.weight": 0.0,
    "distillation.hidden_weight": 0.0,
    "distillation.layers": None,
}

# The position in the data is derived from these, and the weights have the shapes of the model.
FIXED = (
    "seed",
    "model.architecture",
    "model.vocab_size",
    "model.embedding_size",
    "model.hidden_size",
    "model.num_*",
    "model.intermediate_size",
    "model.max_position_embeddings",
    "model.type_vocab_size",
    "model.init_from",
    "model.extend_vocabulary",
    "initial_weights.*",
    "phases.*.data.num_streams",
    "phases.*.data.global_batch_size",
    "manifests.*",
)


def require_resumable(
    saved: dict[str, Any], current: dict[str, Any], *, step: int, allow: Sequence[str], where: str
) -> None:
    """Raise ValueError unless a run saved as `saved` after `step` steps may go on as `current`.

    Both hold the config and `manifests`. Names every key that differs and says whether `resume.allow` (keys or
    patterns such as `phases.1.*`) can permit it. A phase may be appended so, never changed once it is over.
    """
    before, now = flatten(saved), flatten(current)
    before = {key: value for key, value in BEFORE.items() if key in now} | before
    changed = differing(before, now)
    over = _steps_of_left_phases(saved, step)
    fixed = [key for key in changed if key in over or (_matches(key, FIXED) and key in before and key in now)]
    lost = [key for key in changed if key.startswith("phases.") and key not in now]
    if fixed or lost:
        raise ValueError(
            f"{where} is a run of another kind: {_differences(fixed or lost, before, now)}. "
            "These cannot change within a run; name another run_dir, or go back to the old values"
        )
    _require_steps_ahead(current, step, where)
    relevant = [key for key in changed if not _matches(key, FREE) and not _matches(key, allow)]
    if relevant:
        raise ValueError(
            f"{where} was trained with another config: {_differences(relevant, before, now)}. "
            f"Go back to the old values, or permit the change with resume.allow=[{','.join(relevant)}]"
        )


def _steps_of_left_phases(saved: dict[str, Any], step: int) -> set[str]:
    """Return the `max_steps` keys of the phases that a later one has followed: the position is counted from them."""
    ends = accumulate(phase["max_steps"] for phase in saved["phases"][:-1])
    return {f"phases.{index}.max_steps" for index, end in enumerate(ends) if end <= step}


def _require_steps_ahead(current: dict[str, Any], step: int, where: str) -> None:
    """Raise ValueError when the phases now end before what is done already."""
    total = sum(phase["max_steps"] for phase in current["phases"])
    if total < step:
        raise ValueError(f"max_steps={total} is not valid: {where} has done {step} steps already")


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(key, pattern) for pattern in patterns)


def _differences(keys: Sequence[str], before: dict[str, Any], now: dict[str, Any]) -> str:
    shown = [f"{key} was {before.get(key)!r}, now {now.get(key)!r}" for key in keys[:5]]
    return "; ".join(shown) + (f"; and {len(keys) - 5} more" if len(keys) > 5 else "")
