"""Batch sizes and inputs make a schedule; what does not fit is named with the nearest that does."""

import pytest

from finetune.batches import Schedule, plan_steps
from finetune.config import EvaluationConfig, LrSchedule, TrainingConfig


def plan(inputs: int = 100, world_size: int = 1, every: int | None = None, **changes: object) -> Schedule:
    settings = {
        "epochs": 3.0,
        "max_steps": None,
        "global_batch_size": 16,
        "micro_batch_size": 8,
        "learning_rate": 1e-3,
        "lr_schedule": LrSchedule.linear,
        "warmup_ratio": 0.1,
        "weight_decay": 0.01,
        "gradient_clipping": 1.0,
        "layer_decay": 1.0,
        "train_top_layers": None,
    }
    training = TrainingConfig(**(settings | changes))  # type: ignore[arg-type]
    evaluation = EvaluationConfig(every=every, batch_size=8, metric=None, patience=None)
    return plan_steps(training, evaluation, inputs=inputs, world_size=world_size)


def test_an_epoch_is_the_default_interval_of_evaluation():
    assert plan() == Schedule(micro_steps=2, total_steps=21, evaluate_every=7)
    assert plan(epochs=0.5) == Schedule(micro_steps=2, total_steps=4, evaluate_every=4)
    assert plan(max_steps=10, every=4) == Schedule(micro_steps=2, total_steps=10, evaluate_every=4)


def test_ranks_share_the_global_batch():
    assert plan(world_size=2) == Schedule(micro_steps=1, total_steps=21, evaluate_every=7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"world_size": 3}, "training.global_batch_size=16 is not valid: a multiple of the 3 ranks; nearest: 15"),
        ({"micro_batch_size": 5}, "training.micro_batch_size=5.*divide the 16 inputs.*nearest: 4"),
        ({"every": 22}, "evaluation.every=22 is not valid: at most the run's 21 steps"),
    ],
)
def test_what_does_not_fit_is_named_with_the_nearest_that_does(changes, message):
    with pytest.raises(ValueError, match=message):
        plan(**changes)
