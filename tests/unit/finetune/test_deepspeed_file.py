"""A DeepSpeed file may not switch off what `training.…` says."""

import json
from pathlib import Path

import pytest

from finetune.deepspeed_file import OURS, read_deepspeed_file

STAGE_1 = {"zero_optimization": {"stage": 1}}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_values_that_are_ours_are_filled_in_where_the_file_does_not_name_them(tmp_path):
    found = read_deepspeed_file(write(tmp_path / "zero.json", STAGE_1 | {"gradient_clipping": 0.5}))
    assert found == STAGE_1 | dict.fromkeys(OURS, "auto") | {"gradient_clipping": 0.5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            STAGE_1 | {"optimizer": {"type": "AdamW"}},
            r'zero\.json has "optimizer", .* training\.layer_decay; remove it',
        ),
        (STAGE_1 | {"scheduler": {"type": "WarmupLR"}}, r'has "scheduler", .* training\.warmup_ratio; remove it'),
        ({"zero_optimization": {"stage": 3}}, r"has zero_optimization\.stage=3; write 1 or 2"),
        ({"zero_optimization": {"stage": "auto"}}, r"has zero_optimization\.stage='auto'; write 1 or 2"),
        ({"zero_optimization": {}}, r"has zero_optimization\.stage=0; write 1 or 2"),
        ({"gradient_clipping": 1.0}, r"has zero_optimization\.stage=None; write 1 or 2"),
        ([STAGE_1], r"zero\.json holds a JSON list; a DeepSpeed file is an object"),
    ],
)
def test_what_would_take_the_place_of_our_settings_is_named_with_the_remedy(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_deepspeed_file(write(tmp_path / "zero.json", content))


def test_what_is_not_json_is_named_with_its_line(tmp_path):
    path = tmp_path / "zero.json"
    path.write_text('{\n "zero_optimization": }')
    with pytest.raises(ValueError, match=r"zero\.json, line 2: not JSON"):
        read_deepspeed_file(path)
