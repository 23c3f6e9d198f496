"""A search as users start it: four trials through Hydra's Optuna sweeper, which go on where they were cut off."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from conf.sweep import find_ranges
from finetune import trials as trials_module
from finetune.__main__ import main as finetune
from finetune.search import main
from tests.finetuned import write_files

RANGES = ["training.learning_rate=tag(log, interval(1e-4, 1e-2))", "training.layer_decay=choice(0.8, 1.0)"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("search"))


def arguments(folder: Path, output_dir: Path, *more: str) -> list[str]:
    files = [f"train_file={folder / 'train.csv'}", f"eval_file={folder / 'eval.csv'}", f"model={folder / 'model'}"]
    quick = [
        "training.max_steps=4",
        "training.global_batch_size=8",
        "training.micro_batch_size=8",
        "evaluation.every=4",
    ]
    return ["task=classification", *files, f"output_dir={output_dir}", *quick, *more]


@pytest.fixture(scope="module")
def searched(folder: Path) -> Path:
    """The folder of a search of four trials by the loss, which is to be small."""
    more = [*RANGES, "evaluation.metric=loss", "hydra.sweeper.n_trials=4"]
    assert main(arguments(folder, folder / "out", *more)) == 0
    return folder / "out"


def trials(output_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output_dir / "search.json").read_text(encoding="utf-8"))
    return content


def test_four_trials_have_values_of_their_ranges_and_the_best_is_the_smallest_loss(searched):
    found = trials(searched)
    assert [trial["number"] for trial in found["trials"]] == [0, 1, 2, 3]
    for trial in found["trials"]:
        config = yaml.safe_load((searched / f"trial-{trial['number']}" / "config.yaml").read_text(encoding="utf-8"))
        values = [f"training.{name}={config['training'][name]}" for name in ("learning_rate", "layer_decay")]
        assert values == trial["chosen"]
        assert 1e-4 <= config["training"]["learning_rate"] <= 1e-2
        results = json.loads((searched / f"trial-{trial['number']}" / "results.json").read_text(encoding="utf-8"))
        assert trial["score"] == results["mean"]["eval"]["loss"]
    assert len({tuple(trial["chosen"]) for trial in found["trials"]}) == 4
    best = min(found["trials"], key=lambda trial: trial["score"])
    assert found["best"] == best["number"]
    sweeper = yaml.safe_load((searched / "optimization_results.yaml").read_text(encoding="utf-8"))
    assert sweeper["best_value"] == best["score"]


def test_the_same_command_repeats_no_trial_and_more_trials_go_on(folder, searched, capsys):
    before = trials(searched)
    shutil.rmtree(searched / "trial-3")
    (searched / "trial-2" / "results.json").unlink()  # it was cut off
    times = {number: (searched / f"trial-{number}" / "results.json").stat().st_mtime_ns for number in (0, 1)}
    more = [*RANGES, "evaluation.metric=loss", "hydra.sweeper.n_trials=5"]
    assert main(arguments(folder, searched, *more)) == 0
    assert trials(searched)["trials"][:4] == before["trials"]
    assert len(trials(searched)["trials"]) == 5
    for number, time in times.items():
        assert (searched / f"trial-{number}" / "results.json").stat().st_mtime_ns == time
    out = capsys.readouterr().out
    assert f"{searched / 'trial-1'} is done already" in out
    assert f"{searched / 'trial-2'} was cut off; it begins again" in out


def test_the_printed_command_repeats_the_best(folder, tmp_path, capsys):
    more = [RANGES[0], "seeds=[0,1]", "hydra.sweeper.n_trials=1"]
    assert main(arguments(folder, tmp_path / "out", *more)) == 0
    out = capsys.readouterr().out
    assert " ± " in out.splitlines()[-4]
    command = shlex.split(out.splitlines()[-1])
    assert command[:3] == ["python", "-m", "finetune"]
    assert finetune(command[3:]) == 0
    found = trials(tmp_path / "out")
    again = json.loads((tmp_path / "out-best" / "results.json").read_text(encoding="utf-8"))
    assert again["mean"]["eval"]["accuracy"] == found["trials"][found["best"]]["score"]


def test_a_trial_that_diverges_is_counted_and_does_not_win(folder, tmp_path, capsys):
    more = ["training.learning_rate=choice(1e30, 1e-4)", "hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=2"]
    assert main(arguments(folder, tmp_path / "out", *more, "evaluation.metric=loss")) == 0
    found = trials(tmp_path / "out")
    assert [trial["score"] is None for trial in found["trials"]].count(True) == 1
    assert "diverged" in capsys.readouterr().out
    assert found["trials"][found["best"]]["chosen"] == ["training.learning_rate=0.0001"]


def test_a_trial_without_memory_ends_the_search_and_is_not_said_to_diverge(folder, tmp_path, monkeypatch, capsys):
    def exhausted(_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trials_module, "finetune_once", exhausted)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        main(arguments(folder, tmp_path / "out", RANGES[0], "hydra.sweeper.n_trials=2"))
    assert "diverged" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "nothing to search: give at least one key a range"),
        (["training.learning_rat=choice(1, 2)"], "Did you mean training.learning_rate"),
        (["training.micro_batch_size=choice(3, 5)"], "training.micro_batch_size has a value and a range; keep one"),
        (["max_length=choice(64, 65)"], "is not valid: the model has 48 positions"),
        (["training.layer_decay=interval(0"], "training.layer_decay=interval(0 is not key=value in Hydra's grammar"),
        (["training.layer_decay=choice(0.8, 1.0)", "evaluation.metric=bleu"], "evaluation.metric='bleu' is not valid"),
        (["training.layer_decay=choice(0.8, 1.0)", "hydra.sweeper.n_trial=2"], "n_trial"),
    ],
)
def test_a_mistake_ends_with_one_message(folder, tmp_path, more, message, capsys):
    assert main(arguments(folder, tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert message in error


def test_trials_of_other_settings_are_not_mixed(folder, searched, capsys):
    more = [*RANGES, "evaluation.metric=loss", "training.weight_decay=0.5", "hydra.sweeper.n_trials=4"]
    assert main(arguments(folder, searched, *more)) == 2
    assert "was made with training.weight_decay=0.01, and now it is 0.5; name another" in capsys.readouterr().err


def test_a_search_runs_in_one_process(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(arguments(folder, tmp_path / "out", RANGES[0])) == 2
    assert "python -m finetune.search runs in one process, and there are 2" in capsys.readouterr().err


def test_ranges_are_told_from_values():
    fixed, ranges = find_ranges(["seeds=[1,2]", "a.b=1,2", "c=range(1,4)", "hydra.sweeper.n_trials=3", "d='x,y'"])
    assert (fixed, ranges) == (["seeds=[1,2]", "d='x,y'"], ["a.b=1,2", "c=range(1,4)"])
