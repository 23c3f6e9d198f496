import json
from pathlib import Path

import pytest

from pretrain.track.run_files import ensure_run_id


def test_the_run_id_is_made_once_and_read_ever_after(tmp_path: Path) -> None:
    run_dir = tmp_path / "new" / "run"
    run_id = ensure_run_id(run_dir)
    assert ensure_run_id(run_dir) == run_id
    assert json.loads((run_dir / "run.json").read_text()) == {"run_id": run_id}
    assert ensure_run_id(tmp_path / "other") != run_id


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"run_id": ""}', '{"run_id": 3}'])
def test_a_run_file_without_an_id_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json.*run_id"):
        ensure_run_id(tmp_path)
