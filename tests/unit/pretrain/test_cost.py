import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from conf.compose import compose
from pretrain.config import Kernels
from pretrain.cost import CostConfig, describe_presets, largest_micro_batch, main, presets, sequence_bytes
from pretrain.model.bert import BertForPretraining
from pretrain.model.memory import StateBytes, state_bytes

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "models.md"


def cells(lines: Sequence[str]) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]


@pytest.fixture(scope="module")
def table() -> list[str]:
    return describe_presets([])


def test_the_table_of_the_documentation_is_what_the_command_prints(table):
    assert "\n".join(table) in DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize("preset", presets())
def test_the_parameters_of_a_preset_are_those_of_the_model_that_is_built(table, preset):
    model = compose("cost", CostConfig, [f"model={preset}"]).model
    with torch.device("meta"):
        built = BertForPretraining(model, Kernels.torch, with_pairs=model.traits.has_pair_head)
    (cells,) = (line.split() for line in table if f"`{preset}`" in line)
    assert cells[3] == f"{sum(parameter.numel() for parameter in built.parameters()):,}"


def test_a_models_table_has_every_stage_number_of_gpus_length_and_gpu(capsys):
    assert main(["model=tiny", "num_gpus=[2,4]", "max_seq_length=[64,128,256]", "gpu_gb=[16]"]) == 0
    printed = capsys.readouterr().out
    rows = cells(printed.splitlines())
    assert rows[0][-3:] == ["16 GB, 64", "16 GB, 128", "16 GB, 256"]
    assert [row[:2] for row in rows[2:]] == [[gpus, stage] for gpus in ("2", "4") for stage in ("0", "1", "2", "3")]
    assert "parameters: 4,433,468" in printed
    for paper in ("arXiv:1910.02054", "arXiv:2205.05198"):
        assert paper in printed


@pytest.mark.parametrize("preset", ["tiny", "large", "roberta_large"])
def test_a_preset_gets_the_lowest_stage_that_allows_as_large_batches_as_any(preset, capsys):
    asked = ["num_gpus=[64]", "max_seq_length=[512]", "gpu_gb=[2,4,6,16,80]"]
    assert main([*asked, f"model={preset}"]) == 0
    *_, zero, one, two, three = cells(capsys.readouterr().out.splitlines())
    (row,) = (row for row in cells(describe_presets(asked)) if row[0] == f"`{preset}`")
    for column in range(-5, 0):
        by_stage = [stage[column] for stage in (zero, one, two, three)]
        largest = max(
            by_stage, key=lambda fit: [int(size) if size != "–" else 0 for size in re.findall(r"[\d–]+", fit)]
        )
        assert row[column] == f"{by_stage.index(largest)}: {largest}"


def test_a_changed_model_is_reckoned_as_changed(capsys):
    assert main(["model=tiny", "model.vocab_size=100", "model.num_hidden_layers=3"]) == 0
    assert re.search(r"BERT: 3 layers, 128 hidden, .* 100 tokens\nparameters: 707,302\n", capsys.readouterr().out)


@pytest.mark.parametrize("activation_checkpointing", [False, True])
def test_twice_the_largest_micro_batch_does_not_fit(activation_checkpointing):
    model = compose("cost", CostConfig, ["model=large"]).model
    state = state_bytes(336_226_108, zero_stage=1, num_gpus=8)
    one = sequence_bytes(model, 512, activation_checkpointing)
    batch = largest_micro_batch(model, state, length=512, gpu_gb=40, activation_checkpointing=activation_checkpointing)
    assert sum(state) + batch * one <= 36e9 < sum(state) + 2 * batch * one


def test_a_gpu_that_holds_no_sequence_gets_none():
    model = compose("cost", CostConfig, ["model=large"]).model
    state = StateBytes(weights=10**10, gradients=0, optimizer=0, buffers=0)
    assert largest_micro_batch(model, state, length=512, gpu_gb=11, activation_checkpointing=False) == 0


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("max_seq_length=[1024]", "max_seq_length=1024 is not valid: model.max_position_embeddings is 512"),
        ("num_gpus=[]", r"num_gpus=\[\] is not valid"),
        ("gpu_gb=[0]", r"gpu_gb=\[0\] is not valid"),
        ("model=huge", "huge"),
    ],
)
def test_a_wrong_argument_ends_with_one_message(argument, message, capsys):
    assert main([argument]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(message, error), error
