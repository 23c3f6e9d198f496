import shutil

import pytest

from pretrain.checkpoint.room import require_room, saves_ahead
from pretrain.config import CheckpointConfig


def room(tmp_path, *, elements: int, keep_last: int = 2, keep_every: int = 0, existing: int = 0, step: int = 0) -> str:
    config = CheckpointConfig(save_every=10, keep_last=keep_last, keep_every=keep_every, asynchronous=True)
    return require_room(
        tmp_path / "not" / "made",
        config,
        elements=elements,
        world_size=1,
        existing=existing,
        step=step,
        total_steps=105,
    )


@pytest.mark.parametrize(
    ("step", "saves"), [(0, 11), (9, 11), (10, 10), (99, 2), (100, 1), (104, 1), (105, 0), (200, 0)]
)
def test_a_run_saves_at_every_multiple_and_at_its_end(step, saves):
    wanted = len({*(s for s in range(10, 106, 10) if s > step), *({105} if step < 105 else ())})
    assert saves_ahead(10, step=step, total_steps=105) == saves == wanted


def test_existing_checkpoints_and_the_end_of_the_run_lower_what_is_needed(tmp_path):
    assert "disk: 3 more" in room(tmp_path, elements=10)
    assert "disk: 2 more" in room(tmp_path, elements=10, existing=1, step=10)
    assert "disk: 1 more" in room(tmp_path, elements=10, existing=5, step=50)
    assert "disk: 1 more" in room(tmp_path, elements=10, step=101)


def test_the_nearest_number_that_fits_is_named_and_fits(tmp_path):
    elements = shutil.disk_usage(tmp_path).free // 12 // 4
    assert "disk: 3 more" in room(tmp_path, elements=elements)
    with pytest.raises(ValueError, match=r"checkpoint\.keep_last=9 is not valid: 10 more .* nearest: [23], or"):
        room(tmp_path, elements=elements, keep_last=9)
    with pytest.raises(
        ValueError, match=r"keep_last=1 is not valid: 2 more .* free some of it, or name another run_dir"
    ):
        room(tmp_path, elements=4 * elements, keep_last=1)


def test_the_checkpoints_that_stay_for_good_are_counted_apart(tmp_path):
    elements = shutil.disk_usage(tmp_path).free // 12 // 5
    assert "keep_every" not in room(tmp_path, elements=elements)
    assert "; checkpoint.keep_every=50 keeps" in room(tmp_path, elements=elements, keep_every=50, step=60)
    assert "; WARNING: more than there is; checkpoint.keep_every=5" in room(tmp_path, elements=elements, keep_every=5)
