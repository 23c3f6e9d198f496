"""Fine-tuning of a few parameters as users start it: it learns, and leaves a plain model and the adapter beside it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, BertForSequenceClassification

from finetune.__main__ import main
from tests.finetuned import arguments, write_files

STRONG = ["training.learning_rate=2e-2", "adapter.rank=4", "adapter.dropout=0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("adapters"))


def finetune(folder: Path, output_dir: Path, *more: str, task: str = "classification") -> dict[str, Any]:
    needed = [f"model={folder / 'model'}", f"output_dir={output_dir}"]
    assert main([*arguments(folder, task), *needed, *STRONG, *more]) == 0
    results: dict[str, Any] = json.loads((output_dir / "results.json").read_text(encoding="utf-8"))
    return results


# An update of AdaLoRA begins as a product of three small matrices: to learn in 60 steps it needs a large scale.
LEARNS = {"lora": ["training.epochs=8"], "adalora": ["training.epochs=12", "adapter.alpha=256"]}


@pytest.mark.parametrize("kind", ["lora", "adalora"])
def test_the_saved_model_is_plain_and_computes_what_the_adapter_does(folder, tmp_path, capsys, kind):
    results = finetune(folder, tmp_path / "out", f"adapter.kind={kind}", *LEARNS[kind])
    assert results["mean"]["eval"]["accuracy"] > 0.8
    seed_dir = tmp_path / "out" / "seed-0"
    saved, report = BertForSequenceClassification.from_pretrained(seed_dir / "model", output_loading_info=True)
    assert not any(report.values())
    config = AutoConfig.from_pretrained(seed_dir / "model")
    base = AutoModelForSequenceClassification.from_pretrained(folder / "model", config=config)
    adapted = PeftModel.from_pretrained(base, seed_dir / "adapter").eval()
    ids = torch.arange(5, 25).view(2, 10)
    torch.testing.assert_close(saved.eval()(input_ids=ids).logits, adapted(input_ids=ids).logits, atol=1e-5, rtol=1e-5)
    pretrained = load_file(folder / "model" / "model.safetensors")
    frozen = "bert.encoder.layer.1.intermediate.dense.weight"
    assert torch.equal(saved.state_dict()[frozen], pretrained[frozen])
    counts = re.search(r"BertForSequenceClassification: ([\d,]+) of ([\d,]+) parameters learn", capsys.readouterr().out)
    assert counts is not None
    learning, everything = (int(count.replace(",", "")) for count in counts.groups())
    extra = everything - sum(parameter.numel() for parameter in saved.parameters())
    # AdaLoRA has a number for each of its four updates, which does not learn.
    head = sum(parameter.numel() for parameter in (*saved.classifier.parameters(), *saved.bert.pooler.parameters()))
    assert extra == learning - head + 4 * (kind == "adalora")


def test_the_best_checkpoint_of_adalora_comes_back_whatever_its_ranks_were(folder, tmp_path):
    """The metric cannot rise after the first evaluation, so the best one has more ranks than the last."""
    more = ["adapter.kind=adalora", "evaluation.every=3", "training.max_steps=8", "training.learning_rate=1e-6"]
    results = finetune(folder, tmp_path / "out", *more)
    assert results["seeds"][0]["best_step"] == 3
    adapter = tmp_path / "out" / "seed-0" / "adapter"
    pattern = json.loads((adapter / "adapter_config.json").read_text())["rank_pattern"]
    # From 24 to 16 by the cube of what is left of the way: 16 + 8 · (1 - 2/4)³ in the third step.
    assert sum(sum(mask) for mask in pattern.values()) == 17
    weights = load_file(adapter / "adapter_model.safetensors")
    assert sum(len(weight) for name, weight in weights.items() if name.endswith("lora_A")) == 17


def test_how_a_step_of_adalora_is_cut_changes_nothing(folder, tmp_path):
    for micro in (8, 2):
        more = ["adapter.kind=adalora", "training.max_steps=5", f"training.micro_batch_size={micro}"]
        finetune(folder, tmp_path / str(micro), *more, "evaluation.metric=loss")
    whole, cut = (load_file(tmp_path / str(micro) / "seed-0" / "model" / "model.safetensors") for micro in (8, 2))
    for name, weight in whole.items():
        torch.testing.assert_close(cut[name], weight, atol=2e-4, rtol=0, msg=name)


@pytest.mark.parametrize("task", ["tagging", "question_answering"])
def test_other_tasks_learn_by_lora_too(folder, tmp_path, task):
    first, last = (
        finetune(folder, tmp_path / str(epochs), "adapter.kind=lora", f"training.epochs={epochs}", task=task)
        for epochs in (0.1, 8)
    )
    assert last["mean"]["eval"]["loss"] < 0.7 * first["mean"]["eval"]["loss"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["adapter.target_modules=[q_lin]"],
            "adapter.target_modules names 'q_lin', which BertForSequenceClassification",
        ),
        (["training.train_top_layers=1"], "training.train_top_layers=1 is not valid: null: adapter.kind=lora freezes"),
        (
            ["deepspeed=ds.json"],
            "deepspeed='ds.json' is not valid: null: adapter.kind=lora has not been tried under it",
        ),
        (["adapter.rank=0"], "adapter.rank=0 is not valid"),
    ],
)
def test_a_mistake_ends_with_one_message_before_any_training(folder, tmp_path, capsys, more, message):
    needed = [f"model={folder / 'model'}", f"output_dir={tmp_path / 'out'}", "adapter.kind=lora"]
    assert main([*arguments(folder, "classification"), *needed, *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
