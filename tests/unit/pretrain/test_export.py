import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForMaskedLM,
    BertForPreTraining,
    pipeline,
)

from conf.compose import compose, to_dict
from pretrain.config import PretrainConfig
from pretrain.export import main
from pretrain.model.hf_directory import export_model, to_flat_batch
from pretrain.model_config import ModelConfig
from tests.models import ALBERT, ROBERTA, build_model, tiny_config
from tests.unit.pretrain.example_checkpoints import SPECIAL, WORDS, write_run, write_tokenizer
from tests.unit.pretrain.wandb_lives import of_kind, runs


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("shards") / "tokenizer")


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return tiny_config(vocab_size=len(SPECIAL + WORDS), num_hidden_layers=2, initializer_range=0.1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path, config: ModelConfig) -> Path:
    folder = tmp_path_factory.mktemp("export") / "model"
    assert export_model(build_model(config).state_dict(), config, tokenizer_dir, folder, "# A card\n") < 1e-5
    return folder


def test_export_is_a_bert_for_pretraining_with_every_weight(exported: Path, config: ModelConfig) -> None:
    model, report = BertForPreTraining.from_pretrained(exported, output_loading_info=True)
    assert not any(report.values()), report
    assert json.loads((exported / "config.json").read_text())["architectures"] == ["BertForPreTraining"]
    assert (exported / "README.md").read_text() == "# A card\n"
    encoded = AutoTokenizer.from_pretrained(exported)(["The harbour.", "Nobody saw it again."], padding=True)
    batch = {name: torch.tensor(rows) for name, rows in encoded.items()}
    ours = build_model(config).eval()(to_flat_batch(batch))
    theirs = model.eval()(**batch).prediction_logits[batch["attention_mask"].bool()]
    torch.testing.assert_close(ours.mlm_logits, theirs, atol=1e-5, rtol=1e-5)


def test_exported_tokenizer_is_that_of_the_shards_and_knows_the_positions(exported: Path, tokenizer_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(exported)
    assert (exported / "vocab.txt").read_bytes() == (tokenizer_dir / "vocab.txt").read_bytes()
    assert tokenizer.tokenize("The Harbour") == ["the", "har", "##bour"]
    assert tokenizer.model_max_length == 24
    assert len(tokenizer("dawn " * 100, truncation=True)["input_ids"]) == 24


def test_fill_mask_works_from_the_folder(exported: Path) -> None:
    model = AutoModelForMaskedLM.from_pretrained(exported)
    assert isinstance(model, BertForMaskedLM)
    answers = pipeline("fill-mask", model=str(exported))("the ship left the [MASK] .")
    assert len(answers) == 5
    assert {answer["token_str"] for answer in answers} <= set(SPECIAL + WORDS) | {"bour"}


def test_a_run_without_pairs_exports_a_masked_lm(tmp_path: Path, tokenizer_dir: Path, config: ModelConfig) -> None:
    weights = build_model(config, with_pairs=False).state_dict()
    export_model(weights, config, tokenizer_dir, tmp_path / "model", "")
    _, report = BertForMaskedLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values()), report


@pytest.mark.parametrize(
    ("changes", "with_pairs", "class_name"),
    [
        (ROBERTA, False, "RobertaForMaskedLM"),
        (ALBERT, True, "AlbertForPreTraining"),
        (ALBERT, False, "AlbertForMaskedLM"),
    ],
)
def test_other_architectures_export_to_their_own_classes(
    changes: dict[str, Any], with_pairs: bool, class_name: str, tmp_path: Path, tokenizer_dir: Path, config: ModelConfig
) -> None:
    other = ModelConfig(**(asdict(config) | changes))
    weights = build_model(other, with_pairs=with_pairs).state_dict()
    assert export_model(weights, other, tokenizer_dir, tmp_path / "model", "") < 1e-5
    assert json.loads((tmp_path / "model" / "config.json").read_text())["architectures"] == [class_name]
    auto_class = AutoModelForPreTraining if with_pairs else AutoModelForMaskedLM
    model, report = auto_class.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert type(model).__name__ == class_name
    assert not any(report.values()), report
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.model_max_length == 24
    long_pair = tokenizer("the ship " * 20, "it left " * 20, truncation=True, return_tensors="pt")
    assert ("token_type_ids" in long_pair) == (other.type_vocab_size > 1)
    assert model(**long_pair)[0].shape == (1, 24, len(SPECIAL + WORDS))
    assert len(pipeline("fill-mask", model=str(tmp_path / "model"))("the ship left the [MASK] .")) == 5


def test_a_tokenizer_that_transformers_reads_otherwise_is_refused(
    tmp_path: Path, tokenizer_dir: Path, config: ModelConfig
) -> None:
    other = tmp_path / "tokenizer"
    shutil.copytree(tokenizer_dir, other)
    settings = json.loads((other / "tokenizer_config.json").read_text())
    (other / "tokenizer_config.json").write_text(json.dumps(settings | {"do_lower_case": False}))
    with pytest.raises(RuntimeError, match="makes other tokens of 'The ship left"):
        export_model(build_model(config).state_dict(), config, other, tmp_path / "model", "")
    assert not (tmp_path / "model").exists()


def test_the_export_fine_tunes(exported: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(exported)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(exported, num_labels=2)
    texts = ["the ship saw good dawn", "it left at a bad dawn", "good harbour", "nobody saw the bad ship"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    labels = torch.tensor([1, 0, 1, 0])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3


def test_a_directory_that_holds_something_is_left_alone(
    tmp_path: Path, tokenizer_dir: Path, config: ModelConfig
) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match="is not an empty directory"):
        export_model(build_model(config).state_dict(), config, tokenizer_dir, tmp_path, "")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_directory_is_filled(tmp_path: Path, tokenizer_dir: Path, config: ModelConfig) -> None:
    (tmp_path / "model").mkdir()
    export_model(build_model(config).state_dict(), config, tokenizer_dir, tmp_path / "model", "")
    assert (tmp_path / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"vocab_size": 9}, "vocab_size=9 .* ids up to 19"), ({"hidden_size": 8}, "not those of the model config")],
)
def test_weights_tokenizer_and_config_must_fit_and_nothing_stays_behind(
    changes: dict[str, int], message: str, tmp_path: Path, tokenizer_dir: Path, config: ModelConfig
) -> None:
    other = ModelConfig(**(asdict(config) | changes))
    with pytest.raises(ValueError, match=message):
        export_model(build_model(config).state_dict(), other, tokenizer_dir, tmp_path / "model", "")
    assert not list(tmp_path.iterdir())


def test_weights_of_a_diverged_run_are_refused(tmp_path: Path, tokenizer_dir: Path, config: ModelConfig) -> None:
    weights = build_model(config).state_dict()
    weights["layers.0.output.weight"][0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"1 parameters hold NaN .*layers\.0\.output\.weight"):
        export_model(weights, config, tokenizer_dir, tmp_path / "model", "")
    assert not list(tmp_path.iterdir())


def test_a_folder_without_tokenizer_is_named(tmp_path: Path, config: ModelConfig) -> None:
    with pytest.raises(ValueError, match=r"nowhere has no tokenizer\.json"):
        export_model(build_model(config).state_dict(), config, tmp_path / "nowhere", tmp_path / "model", "")


@pytest.mark.parametrize(("arguments", "step"), [([], 8), (["tag=step-00000004"], 4)])
def test_the_command_exports_the_newest_or_the_named_checkpoint(
    arguments: list[str],
    step: int,
    tmp_path: Path,
    tokenizer_dir: Path,
    config: ModelConfig,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_run(tmp_path / "run", config, tokenizer_dir, steps=(4, 8))
    output_dir = tmp_path / "new" / "model"
    assert main([f"run_dir={tmp_path / 'run'}", f"output_dir={output_dir}", *arguments]) == 0
    assert f"step-{step:08d}" in capsys.readouterr().out
    weights = BertForPreTraining.from_pretrained(output_dir).state_dict()
    expected = build_model(config, seed=step).state_dict()
    assert torch.equal(weights["bert.pooler.dense.weight"], expected["pooler.weight"])
    card = (output_dir / "README.md").read_text()
    for text in (f"- step: {step}", f"- tokens seen: {1024 * step:,}", "train: 1,200 sequences", "documents, kept: 7"):
        assert text in card
    assert "`shards_128`" in card
    assert "/home/me" not in card
    assert "- loss: 2.5000" in card, "the evaluation at or before the step, not a later one"
    assert "after step 3" in card


def test_logits_that_differ_end_with_exit_code_1(
    tmp_path: Path, tokenizer_dir: Path, config: ModelConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    # Finite weights whose products overflow, so that no comparison can succeed.
    diverged = ModelConfig(**(asdict(config) | {"initializer_range": 1e37}))
    write_run(tmp_path / "run", diverged, tokenizer_dir, steps=(1,))
    assert main([f"run_dir={tmp_path / 'run'}", f"output_dir={tmp_path / 'model'}"]) == 1
    assert "nothing was exported" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_a_run_that_evaluated_nothing_says_so(tmp_path: Path, tokenizer_dir: Path, config: ModelConfig) -> None:
    write_run(tmp_path / "run", config, tokenizer_dir, steps=(1,))
    (tmp_path / "run" / "data.json").unlink()
    assert main([f"run_dir={tmp_path / 'run'}", f"output_dir={tmp_path / 'model'}"]) == 0
    assert "- not measured" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    ("damage", "arguments", "message"),
    [
        ("none", ["run_dir={0}/run", "output_dir={0}/run"], "output_dir=.*/run exists and is not an empty directory"),
        ("none", ["run_dir={0}/nowhere", "output_dir={0}/model"], r"nowhere has no config\.yaml"),
        (
            "none",
            ["run_dir={0}/run", "output_dir={0}/model", "tag=step-00000099"],
            "step-00000099.* is not a complete checkpoint",
        ),
        ("none", ["run_dir={0}/run", "output_dir={0}/model", "tags=step-00000099"], "Did you mean"),
        ("no checkpoint", ["run_dir={0}/run", "output_dir={0}/model"], "no complete checkpoint"),
        ("other config", ["run_dir={0}/run", "output_dir={0}/model"], r"config\.yaml holds no model config"),
        ("torn config", ["run_dir={0}/run", "output_dir={0}/model"], r"config\.yaml holds no model config"),
    ],
)
def test_bad_input_ends_with_one_message_and_exit_code_2(
    damage: str,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    tokenizer_dir: Path,
    config: ModelConfig,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_run(tmp_path / "run", config, tokenizer_dir, steps=() if damage == "no checkpoint" else (1,))
    if damage == "other config":
        (tmp_path / "run" / "config.yaml").write_text("model: {hidden: 3}\n")
    if damage == "torn config":
        (tmp_path / "run" / "config.yaml").write_text("model: {hidden_size: 'x\n")
    assert main([argument.format(tmp_path) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") <= 2
    assert re.search(message, error), error
    assert not (tmp_path / "model").exists()


def test_wandb_lists_an_export_if_asked_to_and_never_fails_one(
    tmp_path: Path, tokenizer_dir: Path, config: ModelConfig
) -> None:
    """Offline it keeps the artifact for `wandb sync`; online without a key it costs a warning."""
    overrides = ["shards_dir=a", f"run_dir={tmp_path}", "tracking=wandb", "tracking.artifacts=exports"]
    tracking = to_dict(compose("pretrain", PretrainConfig, overrides).tracking)
    commands = []
    for mode in ("offline", "online"):
        run_dir, output_dir = tmp_path / mode, tmp_path / f"model of the {mode} run"
        write_run(run_dir, config, tokenizer_dir, steps=(4,), tracking=tracking | {"wandb": mode})
        commands.append([f"run_dir={run_dir}", f"output_dir='{output_dir}'"])
    program = "import sys; from pretrain.export import main; sys.exit(any([main(sys.argv[1:3]), main(sys.argv[3:])]))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    done = subprocess.run(
        [sys.executable, "-c", program, *commands[0], *commands[1]],
        env=environment | {"HOME": str(tmp_path), "NETRC": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [records] = runs(tmp_path / "offline")
    (artifact,) = of_kind(records, "artifact")
    told = [line for line in done.stdout.splitlines() if not line.startswith("[")]  # as DeepSpeed's own do
    assert told[1].startswith(f"listed by W&B as {artifact.name}:step-00000004; `wandb sync` sends it from ")
    assert (artifact.type, sorted(artifact.aliases)) == ("model", ["latest", "step-00000004"])
    assert json.loads(artifact.metadata) == {"step": 4, "sequences_seen": 256, "tokens_seen": 4096}
    model = tmp_path / "model of the offline run"
    files = {entry.path: (entry.ref, entry.size) for entry in artifact.manifest.contents}
    assert files == {
        path.name: (f"{model.as_uri()}/{path.name}", path.stat().st_size) for path in model.iterdir() if path.is_file()
    }
    assert "model.safetensors" in files
    assert len(told) == 3, "of the second export, that it is done"
    (warning,) = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert "model of the online run as an artifact: tracking.wandb=online is not possible: no API key" in warning
    assert (tmp_path / "model of the online run" / "model.safetensors").is_file()
