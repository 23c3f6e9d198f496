import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    TrainerControl,
    TrainerState,
)

from finetune.adapter_config import AdapterConfig, AdapterKind
from finetune.adapters import (
    AdaLora,
    add_adapter,
    is_adalora,
    merge_adapter,
)

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "num_labels": 3,
}
IDS = torch.arange(5, 25).view(2, 10)
LABELS = torch.tensor([0, 2])


def build(name: str) -> Any:
    torch.manual_seed(0)
    if name == "roberta":
        return RobertaForSequenceClassification(RobertaConfig(**SIZES, pad_token_id=1))
    if name == "albert":
        return AlbertForSequenceClassification(AlbertConfig(**SIZES, embedding_size=16))
    if name == "bert_qa":
        return BertForQuestionAnswering(BertConfig(**SIZES | {"num_labels": 2}))
    return BertForSequenceClassification(BertConfig(**SIZES))


def config(kind: str = "lora", **changes: Any) -> AdapterConfig:
    settings: dict[str, Any] = {
        "rank": 4,
        "alpha": 16.0,
        "dropout": 0.0,
        "target_modules": None,
        "initial_rank": None,
        "warmup_ratio": 0.1,
        "final_ratio": 0.5,
    }
    return AdapterConfig(kind=AdapterKind(kind), **(settings | changes))


def shake(model: Any) -> None:
    """Give every parameter that learns a random value: updates begin at zero, which would hide a wrong merge."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0.0, 0.3)


@pytest.mark.parametrize("kind", ["lora", "adalora"])
@pytest.mark.parametrize("name", ["bert", "bert_qa", "roberta", "albert"])
def test_only_updates_of_query_and_value_the_head_and_a_pooler_learn(name, kind):
    model = add_adapter(build(name), config(kind), total_steps=10)
    learning = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    for key in learning:
        assert any(part in key for part in (".query.lora_", ".value.lora_", "classifier", "qa_outputs", "pooler")), key
    updated = {key.split(".lora_")[0] for key in learning if ".lora_" in key}
    assert len(updated) == (2 if name == "albert" else 4)  # ALBERT's layers are one
    assert any("classifier" in key or "qa_outputs" in key for key in learning)
    assert any("pooler" in key for key in learning) == (name in ("bert", "albert"))


@pytest.mark.parametrize("kind", ["lora", "adalora"])
@pytest.mark.parametrize("name", ["bert", "bert_qa", "roberta", "albert"])
def test_the_merged_model_is_plain_and_computes_the_same(name, kind, tmp_path):
    model = add_adapter(build(name), config(kind), total_steps=10).eval()
    shake(model)
    before = build(name).eval()(input_ids=IDS)[0]
    expected = model(input_ids=IDS)[0].detach()
    merged = merge_adapter(model, tmp_path / "adapter", write=True).eval()
    assert type(merged) is type(build(name))
    assert set(merged.state_dict()) == set(build(name).state_dict())
    torch.testing.assert_close(merged(input_ids=IDS)[0], expected, atol=1e-5, rtol=1e-5)
    assert (before - expected).abs().max() > 0.01
    again = PeftModel.from_pretrained(build(name), tmp_path / "adapter").eval()
    torch.testing.assert_close(again(input_ids=IDS)[0], expected, atol=1e-5, rtol=1e-5)


def test_other_matrices_can_be_named_and_unknown_ones_are_refused():
    model = add_adapter(build("bert"), config(target_modules=["key"]), total_steps=10)
    assert {key.split(".")[-4] for key, _ in model.named_parameters() if ".lora_A." in key} == {"key"}
    with pytest.raises(
        ValueError, match=r"adapter\.target_modules names 'q_lin', which BertFor.*dense, key, query, value"
    ):
        add_adapter(build("bert"), config(target_modules=["q_lin"]), total_steps=10)


def test_the_regulariser_is_what_peft_adds_to_a_models_own_loss():
    theirs, ours = (add_adapter(build("bert"), config("adalora"), total_steps=10) for _ in range(2))
    for model in (theirs, ours):
        shake(model)
    theirs.base_model(input_ids=IDS, labels=LABELS).loss.backward()
    ours(input_ids=IDS, labels=LABELS).loss.backward()  # peft's outermost model leaves it out
    AdaLora(ours).on_pre_optimizer_step(None, TrainerState(), TrainerControl())
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters() if parameter.requires_grad}
    assert any(gradient is not None and gradient.abs().max() > 0.01 for gradient in expected.values())
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, expected[name], msg=name)


def train(steps: int, **changes: Any) -> Any:
    """Train an AdaLoRA model as the Trainer does, and return it."""
    model = add_adapter(build("bert"), config("adalora", **changes), total_steps=steps)
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=0.05)
    callback, state, control = AdaLora(model), TrainerState(max_steps=steps), TrainerControl()
    for step in range(steps):
        model(input_ids=IDS, labels=LABELS).loss.backward()
        state.global_step = step
        callback.on_pre_optimizer_step(None, state, control)
        optimizer.step()
        callback.on_optimizer_step(None, state, control)
        optimizer.zero_grad()
    return model


def ranks(model: Any) -> list[int]:
    return [sum(mask) for mask in model.peft_config["default"].rank_pattern.values()]


def test_adalora_begins_with_more_ranks_and_ends_with_its_budget_shared_unevenly():
    model = train(20)
    assert {part.shape[0] for key, part in model.named_parameters() if "lora_A" in key} == {math.ceil(1.5 * 4)}
    assert sum(ranks(model)) == 4 * len(ranks(model)) == 16
    assert len(set(ranks(model))) > 1
    alive = sum(int(part.ne(0).sum()) for key, part in model.named_parameters() if "lora_E" in key)
    assert alive == 16  # what has no rank is zero


def test_the_ranks_of_the_best_checkpoint_come_back_at_the_end(tmp_path: Path):
    model = train(20)
    model.save_pretrained(tmp_path)
    kept = dict(model.peft_config["default"].rank_pattern)
    model.peft_config["default"].rank_pattern = {key: [True] * len(mask) for key, mask in kept.items()}
    state = TrainerState(max_steps=20, global_step=10, best_model_checkpoint=str(tmp_path))
    callback = AdaLora(model)
    callback.on_epoch_end(None, state, TrainerControl())
    assert sum(ranks(model)) > 16  # an epoch that is not the last
    state.global_step = 20
    callback.on_epoch_end(None, state, TrainerControl())
    assert model.peft_config["default"].rank_pattern == kept


def test_lora_has_no_moving_ranks():
    assert is_adalora(add_adapter(build("bert"), config("adalora"), total_steps=10))
    assert not is_adalora(add_adapter(build("bert"), config(), total_steps=10))
    assert not is_adalora(build("bert"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "adapter.rank=0 is not valid: at least 1"),
        ({"alpha": 0.0}, "adapter.alpha=0.0 is not valid"),
        ({"dropout": 1.0}, "adapter.dropout=1.0 is not valid"),
        ({"target_modules": []}, r"adapter.target_modules=\[\] is not valid: null or at least one name"),
        ({"initial_rank": 3}, "adapter.initial_rank=3 is not valid: at least rank=4"),
        ({"warmup_ratio": 0.5}, "adapter.final_ratio=0.5 is not valid: below 1 together with warmup_ratio"),
    ],
)
def test_settings_that_cannot_be_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)
