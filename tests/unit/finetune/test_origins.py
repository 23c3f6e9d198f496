"""Results are read again only where the files they come from hold what they held."""

from pathlib import Path

import pytest

from finetune.config import FinetuneConfig, compose_finetune
from finetune.origins import ORIGINS_FILE, find_origins, require_same_files, write_origins

FILES = ("train.csv", "eval.csv", "model/config.json", "model/tokenizer.json", "model/model.safetensors")


@pytest.fixture
def config(tmp_path: Path) -> FinetuneConfig:
    (tmp_path / "model").mkdir()
    (tmp_path / "out").mkdir()
    for name in (*FILES, "model/README.md"):
        (tmp_path / name).write_text(name)
    files = [f"{split}_file={tmp_path / split}.csv" for split in ("train", "eval")]
    keys = ["task=classification", f"model={tmp_path / 'model'}", *files, f"output_dir={tmp_path / 'out'}"]
    config = compose_finetune(keys)
    write_origins(tmp_path / "out" / ORIGINS_FILE, find_origins(config))
    return config


def test_the_same_files_are_the_same_whatever_a_model_card_says(config, tmp_path):
    (tmp_path / "model" / "README.md").write_text("another")
    require_same_files(config, tmp_path / "out")


@pytest.mark.parametrize("name", FILES)
def test_another_content_is_named(config, tmp_path, name):
    (tmp_path / name).write_text("another")
    message = rf"out was made of \w+={tmp_path / name} \(sha256 .*; name another output_dir"
    with pytest.raises(ValueError, match=message):
        require_same_files(config, tmp_path / "out")


def test_weights_that_were_added_are_named(config, tmp_path):
    (tmp_path / "model" / "model-2.safetensors").write_text("more")
    with pytest.raises(ValueError, match=r"model-2\.safetensors \(no such file\), and now there is \(sha256 "):
        require_same_files(config, tmp_path / "out")


@pytest.mark.parametrize("record", [None, "{", "[]"])
def test_a_folder_that_does_not_say_what_it_is_made_of_is_refused(config, tmp_path, record):
    path = tmp_path / "out" / ORIGINS_FILE
    path.unlink()
    if record is not None:
        path.write_text(record)
    with pytest.raises(ValueError, match=r"out does not say of which files it was made: origins\.json is not there"):
        require_same_files(config, tmp_path / "out")
