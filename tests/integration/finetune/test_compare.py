"""A comparison as users start it: checkpoints and random weights under one budget; it goes on when it was cut off."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from data_prep.tokenizer import save_tokenizer, wordpiece_tokenizer
from finetune.compare import main
from tests.finetuning import write_csv
from tests.models import tiny_config
from tests.unit.pretrain.test_export import SPECIAL, WORDS, write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two checkpoints and one that a save left behind, and files of a task."""
    folder = tmp_path_factory.mktemp("compare")
    save_tokenizer(wordpiece_tokenizer(SPECIAL + WORDS, lowercase=True, source="the test"), folder / "tokenizer")
    config = tiny_config(vocab_size=len(SPECIAL + WORDS), num_hidden_layers=2, initializer_range=0.1)
    write_run(folder / "run", config, folder / "tokenizer", steps=(4, 8))
    (folder / "run" / "checkpoints" / "step-00000012").mkdir()
    rows = [(f"the {word} ship left", word) for _ in range(12) for word in ("good", "bad")]
    for split in ("train", "eval"):
        write_csv(folder / f"{split}.csv", rows)
    return folder


def arguments(folder: Path, output_dir: Path, *more: str) -> list[str]:
    files = [f"{split}_file={folder / split}.csv" for split in ("train", "eval")]
    quick = [
        "training.max_steps=3",
        "training.global_batch_size=8",
        "training.micro_batch_size=8",
        "evaluation.every=3",
    ]
    return [f"run_dir={folder / 'run'}", "task=classification", *files, f"output_dir={output_dir}", *quick, *more]


@pytest.fixture(scope="module")
def compared(folder: Path) -> Path:
    """The folder of a comparison with two seeds, which an earlier call began with the first checkpoint."""
    output_dir = folder / "out"
    assert main(arguments(folder, output_dir, "seeds=[0,1]", "steps=[4]")) == 0
    assert main(arguments(folder, output_dir, "seeds=[0,1]")) == 0
    return output_dir


def compare_json(output_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output_dir / "compare.json").read_text(encoding="utf-8"))
    return content


def test_every_checkpoint_and_random_weights_are_fine_tuned_with_the_same_seeds(compared):
    found = compare_json(compared)["results"]
    assert list(found) == ["random", "4", "8"]
    for name, results in found.items():
        assert [one["seed"] for one in results["seeds"]] == [0, 1]
        base = compared if name == "random" else compared / f"step-{int(name):08d}"
        for one in results["seeds"]:
            assert (base / one["model"] / "finetune.json").is_file()
    assert found["4"]["mean"] != found["8"]["mean"] != found["random"]["mean"]
    assert (compared / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_a_checkpoint_is_fine_tuned_from_its_own_weights(compared):
    name = "bert.encoder.layer.0.attention.self.query.weight"
    first, second = (load_file(compared / "models" / f"step-{step:08d}" / "model.safetensors") for step in (4, 8))
    assert not torch.equal(first[name], second[name])


def test_random_weights_are_of_the_same_architecture_and_of_each_seed(compared):
    exported = compared / "models" / "step-00000004"
    models = [compared / "models" / f"random-{seed}" for seed in (0, 1)]
    weights = [AutoModelForSequenceClassification.from_pretrained(path).bert.state_dict() for path in models]
    trained = AutoModelForSequenceClassification.from_pretrained(exported).bert
    assert {name: one.shape for name, one in weights[0].items()} == {
        name: one.shape for name, one in trained.state_dict().items()
    }
    matrix = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(weights[0][matrix], weights[1][matrix])
    assert weights[0][matrix].std() == pytest.approx(trained.config.initializer_range, rel=0.1)
    text = "nobody saw the ship at dawn"
    assert AutoTokenizer.from_pretrained(models[0])(text) == AutoTokenizer.from_pretrained(exported)(text)


def test_what_is_done_is_not_done_again(folder, compared, capsys):
    before = compare_json(compared)
    shutil.rmtree(compared / "step-00000008" / "seed-1")
    (compared / "step-00000008" / "results.json").unlink()
    assert main(arguments(folder, compared, "seeds=[0,1]")) == 0
    out = capsys.readouterr().out
    for name in ("random-0", "random-1", "step-00000004"):
        assert f"{compared / name} is done already" in out
    assert f"{compared / 'step-00000008'} was cut off; it begins again" in out
    assert "exported" not in out
    assert compare_json(compared) == before


def test_the_table_has_a_line_per_checkpoint_and_says_what_pretraining_gains(folder, compared, capsys):
    assert main(arguments(folder, compared, "seeds=[0,1]", "steps=[4,8]")) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("step (eval)"))
    assert [line.split()[0] for line in lines[start + 1 : start + 4]] == ["random", "4", "8"]
    found = compare_json(compared)["results"]
    score, std = found["8"]["mean"]["eval"]["accuracy"], found["8"]["std"]["eval"]["accuracy"]
    assert f"{score:.4f} ± {std:.4f}" in lines[start + 3]
    gain = score - found["random"]["mean"]["eval"]["accuracy"]
    assert lines[start + 5].startswith(f"accuracy: step 8 is {gain:+.4f} better than random weights; ")
    assert lines[start + 6].startswith("from step 4 to 8 it gained ")


def other_run(run_dir: Path) -> None:
    (run_dir / "run.json").write_text('{"run_id": "4567"}')


def trained_again(run_dir: Path) -> None:
    path = run_dir / "checkpoints" / "step-00000008" / "COMPLETE.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"loss_scaler": None}))


def no_run_id(run_dir: Path) -> None:
    (run_dir / "run.json").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_run, "models has models of the run {id} ({run}), and run_dir={other} is the run 4567; name another"),
        (trained_again, "models/step-00000008 was exported when COMPLETE.json of step-00000008 had sha256 "),
        (no_run_id, "{other}/run.json does not say which run it is"),
    ],
)
def test_models_of_another_run_or_of_an_older_checkpoint_are_refused(
    folder, compared, tmp_path, change, message, capsys
):
    shutil.copytree(folder / "run", tmp_path / "run")
    change(tmp_path / "run")
    before = compare_json(compared)
    assert main(arguments(folder, compared, "seeds=[0,1]", f"run_dir={tmp_path / 'run'}")) == 2
    said = capsys.readouterr()
    run_id = json.loads((folder / "run" / "run.json").read_text())["run_id"]
    assert message.format(id=run_id, run=folder / "run", other=tmp_path / "run") in said.err
    assert "step (eval)" not in said.out
    assert compare_json(compared) == before


def test_results_of_a_file_whose_content_was_another_are_refused(folder, compared, capsys):
    path = folder / "eval.csv"
    content = path.read_bytes()
    path.write_bytes(content + b'"the good ship","good"\n')
    try:
        assert main(arguments(folder, compared, "seeds=[0,1]")) == 2
    finally:
        path.write_bytes(content)
    assert f"{compared / 'random-0'} was made of eval_file={path} (sha256 " in capsys.readouterr().err


def test_models_of_which_nobody_knows_the_run_are_refused(folder, tmp_path, capsys):
    (tmp_path / "out" / "models" / "step-00000004").mkdir(parents=True)
    assert main(arguments(folder, tmp_path / "out")) == 2
    assert "models does not say of which files it was made: origins.json is not there" in capsys.readouterr().err


def test_a_run_may_move(folder, compared, tmp_path, capsys):
    shutil.copytree(folder / "run", tmp_path / "run")
    assert main(arguments(folder, compared, "seeds=[0,1]", f"run_dir={tmp_path / 'run'}")) == 0
    assert "step (eval)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["steps=[4,5]"], "steps names 5, of which"),
        (["steps=[4,12]"], "has no complete checkpoint; it has 4, 8"),
        (["steps=some"], "steps='some' is not valid: all, or a list of steps"),
        (["steps=[]"], "steps=[] is not valid"),
        (["model=bert"], "model is not a key of finetune.compare"),
        (["run_dir=nowhere"], "run_dir=nowhere has no checkpoints/: it is not a run directory of pretrain"),
        (["training.learning_rat=1"], "Did you mean training.learning_rate"),
    ],
)
def test_a_mistake_ends_with_one_message(folder, tmp_path, more, message, capsys):
    assert main(arguments(folder, tmp_path / "out", *more)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_cannot_be_exported_is_named_with_the_reason(folder, tmp_path, capsys):
    shutil.copytree(folder / "run", tmp_path / "a run's")
    (tmp_path / "a run's" / "tokenizer" / "tokenizer.json").unlink()
    more = [f'run_dir="{tmp_path}/a run\'s"', "steps=[8]"]
    assert main(arguments(folder, tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err
    assert "a run's cannot be exported at step-00000008" in error
    assert "has no tokenizer.json" in error
