"""How much each label weighs in the loss: the rarer the heavier, or as the config says."""

from collections.abc import Mapping, Sequence

from finetune.task_config import ClassWeights


def label_weights(
    kind: ClassWeights, given: Mapping[str, float] | None, labels: Sequence[str], counts: Sequence[int]
) -> list[float] | None:
    """Return a weight per label for a softmax, None for none. `counts` are those of the training file.

    Balanced weights are n / (labels × count), as scikit-learn's; over the training file they average 1. A label that
    does not occur weighs 1. Raises ValueError when `given` names a label that is not there.
    """
    total = sum(counts)
    balanced = [total / (len(labels) * count) if count else 1.0 for count in counts]
    return _choose(kind, given, labels, balanced)


def positive_weights(
    kind: ClassWeights, given: Mapping[str, float] | None, labels: Sequence[str], counts: Sequence[int], examples: int
) -> list[float] | None:
    """Return a weight of the positive examples of each label for independent yes-or-no losses, None for none.

    Balanced weights are negatives / positives. Raises ValueError when `given` names a label that is not there.
    """
    balanced = [max(examples - count, 1) / count if count else 1.0 for count in counts]
    return _choose(kind, given, labels, balanced)


def _choose(
    kind: ClassWeights, given: Mapping[str, float] | None, labels: Sequence[str], balanced: list[float]
) -> list[float] | None:
    require_known(given, labels)
    if kind is ClassWeights.none:
        return None
    return balanced if kind is ClassWeights.balanced else [(given or {}).get(label, 1.0) for label in labels]


def require_known(given: Mapping[str, float] | None, labels: Sequence[str]) -> None:
    """Raise ValueError when `task.label_weights` names a label that the training file does not have."""
    for label in given or {}:
        if label not in labels:
            raise ValueError(
                f"task.label_weights names {label!r}, which is no label of train_file; it has {', '.join(labels)}"
            )
