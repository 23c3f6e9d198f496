"""Phases lie end to end."""

import pytest

from conf.compose import compose
from pretrain.config import PretrainConfig
from pretrain.loop import due
from pretrain.phases import Position, locate, total_steps

PHASE = (
    "{{name: {name}, shards_dir: S, max_steps: {steps}, learning_rate: 0.1, optimizer_state: carry, "
    "data: ${{data}}, lr_schedule: ${{lr_schedule}}}}"
)


def phases(*steps: int):
    listed = ", ".join(PHASE.format(name=f"p{number}", steps=count) for number, count in enumerate(steps))
    arguments = ["shards_dir=S", "run_dir=R", "lr_schedule.warmup_steps=1", f"phases=[{listed}]"]
    return compose("pretrain", PretrainConfig, arguments).phases


def test_a_step_of_the_run_is_a_step_of_one_phase():
    run = phases(3, 1, 2)
    assert total_steps(run) == 6
    assert [locate(run, step) for step in range(6)] == [
        Position(0, 0),
        Position(0, 1),
        Position(0, 2),
        Position(1, 0),
        Position(2, 0),
        Position(2, 1),
    ]
    with pytest.raises(ValueError, match="step 6 lies beyond the 6 steps"):
        locate(run, 6)


def test_phases_share_their_streams():
    arguments = ["shards_dir=S", "run_dir=R", "lr_schedule.warmup_steps=1"]
    first = PHASE.format(name="a", steps=2)
    second = first.replace("${data}", "{global_batch_size: 4, micro_batch_size: 1, num_streams: 4}")
    with pytest.raises(ValueError, match=r"num_streams=\[4, 8\].*the same in every phase"):
        compose("pretrain", PretrainConfig, [*arguments, f"phases=[{first},{second}]"])


def test_zero_means_never():
    assert [step for step in range(1, 10) if due(step, 3)] == [3, 6, 9]
    assert not any(due(step, 0) for step in range(10))
