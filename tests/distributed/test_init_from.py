"""Runs that begin with a model of transformers: its very weights, once, and on record."""

import io
import json
import math
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining

from pretrain.__main__ import run
from pretrain.checkpoint.restore import newest_checkpoint, read_checkpoint
from pretrain.distributed import Ranks
from pretrain.export import export_run
from pretrain.init_from import compose_run
from pretrain.model.hf_weights import from_huggingface
from pretrain.run_check import check
from pretrain.start import start_engine
from pretrain.stop import StopRequest
from tests.continued import model_config, write_model, write_shards_of
from tests.distributed.runs import EXACT, TINY, engine_overrides, full_weights, lines
from tests.distributed.workers import COLLECTIVE_TIMEOUT_SECONDS

KEYS = [key for key in TINY if not key.startswith("model")]
KEYS += ["max_steps=6", "lr_schedule.warmup_steps=2", f"engine.collective_timeout_seconds={COLLECTIVE_TIMEOUT_SECONDS}"]
WIDE = model_config(hidden_size=32, intermediate_size=64)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "model"
    write_model(directory, AutoModelForPreTraining, WIDE)
    return directory


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards_of(tmp_path_factory.mktemp("data") / "shards")


def command(shards: Path, run_dir: Path, model: Path, *overrides: str) -> list[str]:
    keys = [f"shards_dir={shards}", f"run_dir={run_dir}", f"model.init_from={model}"]
    return [*keys, *KEYS, *engine_overrides(1, "fp32"), *overrides]


def train(ranks: Ranks, arguments: list[str]) -> str:
    """Do what the command does; return what it said, or the mistake that it named."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as said:
        try:
            run(compose_run(arguments), ranks, StopRequest())
        except ValueError as error:
            return str(error)
    return out.getvalue() + said.getvalue()


def first_weights(ranks: Ranks, arguments: list[str]) -> dict[str, torch.Tensor]:
    config = compose_run(arguments)
    engine = start_engine(config, check(config, ranks), ranks)
    return full_weights(engine, ranks)


@pytest.mark.parametrize(("stage", "precision"), [(0, "fp32"), (1, "bf16"), (2, "fp32"), (3, "bf16")])
def test_a_run_begins_with_the_very_weights_of_the_file_in_fp32(
    worker_group, shards: Path, model: Path, tmp_path: Path, stage: int, precision: str
) -> None:
    arguments = command(shards, tmp_path / "run", model, *engine_overrides(stage, precision))
    wanted = from_huggingface(AutoModelForPreTraining.from_pretrained(model).state_dict(), WIDE.architecture, 0)
    for weights in worker_group(2).run(first_weights, arguments):
        assert weights.keys() == wanted.keys()
        assert all(torch.equal(weights[name], wanted[name]) for name in wanted)


def test_heads_that_the_file_lacks_are_drawn_from_the_seed_alike_on_every_rank(
    worker_group, shards: Path, tmp_path: Path
) -> None:
    write_model(tmp_path / "bare", AutoModel, WIDE)
    arguments = command(shards, tmp_path / "run", tmp_path / "bare", *engine_overrides(0, "fp32"))
    one, other = worker_group(2).run(first_weights, arguments)
    assert all(torch.equal(one[name], other[name]) for name in one)
    again, _ = worker_group(2).run(first_weights, [*arguments, "seed=1"])
    differ = {name.partition(".")[0] for name in one if not torch.equal(one[name], again[name])}
    assert differ == {"mlm_head", "nsp_head"}, "the pooler is in the file"


@pytest.fixture(scope="module")
def uninterrupted(worker_group, shards: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    said = worker_group(2).run(train, command(shards, run_dir, model))
    assert f"weights of {model}: with all heads" in said[0]
    assert f", from {model}" in said[0]
    return run_dir


def test_a_resume_needs_the_model_no_more_and_goes_on_to_the_last_bit(
    worker_group, shards: Path, model: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    copy, run_dir = tmp_path / "copy", tmp_path / "run"
    shutil.copytree(model, copy)
    worker_group(2).run(train, command(shards, run_dir, copy, "stop_after=3"))
    shutil.rmtree(copy)
    said = worker_group(2).run(train, command(shards, run_dir, copy))
    assert ", from step-00000003" in said[0]
    assert lines(run_dir, EXACT) == lines(uninterrupted, EXACT)


def test_the_weights_are_on_record(uninterrupted: Path, model: Path) -> None:
    file = model / "model.safetensors"
    wanted = {"weights_file": str(file), "sha256": sha256(file.read_bytes()).hexdigest()}
    recorded = json.loads((uninterrupted / "run.json").read_text())
    assert recorded["initial_weights"] == wanted
    assert len(recorded["run_id"]) == 16
    assert read_checkpoint(newest_checkpoint(uninterrupted)).run["initial_weights"] == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.init_from=elsewhere", r"run of another kind: model.init_from was '\S+model', now 'elsewhere'"),
        ("model.extend_vocabulary=true", r"run of another kind: model.extend_vocabulary was False, now True"),
        ("model.hidden_size=64", r"run of another kind: model.hidden_size was 32, now 64"),
    ],
)
def test_a_resume_from_another_beginning_is_refused(
    worker_group, shards: Path, model: Path, uninterrupted: Path, change: str, message: str
) -> None:
    said = worker_group(1).run(train, [*command(shards, uninterrupted, model, "max_steps=8"), change])
    assert re.search(message, said[0]), said


def test_a_file_that_is_another_one_on_a_host_is_refused(
    worker_group, shards: Path, model: Path, tmp_path: Path
) -> None:
    said = worker_group(1).run(begin_after_a_change, command(shards, tmp_path / "run", model), tmp_path / "copy", model)
    assert "is not the file that rank 0 has there; copy the same model to every host" in said[0]


def begin_after_a_change(ranks: Ranks, arguments: list[str], copy: Path, model: Path) -> str:
    shutil.copytree(model, copy)
    config = compose_run([*arguments, f"model.init_from={copy}"])
    checked = check(config, ranks)
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    try:
        start_engine(config, checked, ranks)
    except ValueError as error:
        return str(error)
    return ""


def test_a_model_of_512_positions_goes_on_at_1024_and_is_exported_so(worker_group, tmp_path: Path) -> None:
    write_model(tmp_path / "model", AutoModelForPreTraining, model_config(max_position_embeddings=512))
    sizes = {"max_length": 1024, "shards": 2, "block_size": 8, "blocks": 1, "held_out_sequences": 0}
    shards = write_shards_of(tmp_path / "shards", **sizes)
    keys = ["data.num_streams=2", "data.global_batch_size=4", "max_steps=2"]
    arguments = command(shards, tmp_path / "run", tmp_path / "model", *keys)
    refused = worker_group(2).run(train, arguments)
    assert "model.max_position_embeddings=512 is not valid: the shards have sequences of up to" in refused[0]
    said = worker_group(2).run(train, [*arguments, "model.max_position_embeddings=1024"])
    assert "its 512 positions repeated to 1,024" in said[0]
    assert all(math.isfinite(loss) for _, loss in lines(tmp_path / "run", ("step", "loss")))
    with redirect_stdout(io.StringIO()):
        export_run(tmp_path / "run", tmp_path / "exported", None)
    exported = AutoModelForMaskedLM.from_pretrained(tmp_path / "exported")
    assert exported.config.max_position_embeddings == 1024
    assert exported(torch.full((1, 1024), 9)).logits.isfinite().all()


def test_a_vocabulary_grows_and_its_new_rows_are_trained(worker_group, model: Path, tmp_path: Path) -> None:
    shards = write_shards_of(tmp_path / "shards", new_words=["photovoltaik", "solar"])
    arguments = command(shards, tmp_path / "run", model, "model.extend_vocabulary=true")
    before = worker_group(1).run(first_weights, arguments)[0]["embeddings.word_embeddings.weight"]
    said = worker_group(1).run(train, arguments)
    assert "2 new words begin as the mean of their pieces" in said[0]
    with redirect_stdout(io.StringIO()):
        export_run(tmp_path / "run", tmp_path / "exported", None)
    after = AutoModel.from_pretrained(tmp_path / "exported").get_input_embeddings().weight
    assert after.shape == before.shape == (66, 32)
    assert not torch.equal(after[64:], before[64:])


def test_the_student_of_a_wider_teacher_begins_with_the_weights_of_the_file_too(
    worker_group, shards: Path, model: Path, tmp_path: Path
) -> None:
    write_model(tmp_path / "teacher", AutoModelForMaskedLM, model_config(hidden_size=48, intermediate_size=96), seed=1)
    chosen = ["distillation=hidden_states", f"distillation.teacher={tmp_path / 'teacher'}"]
    arguments = command(shards, tmp_path / "run", model, *chosen)
    wanted = from_huggingface(AutoModelForPreTraining.from_pretrained(model).state_dict(), WIDE.architecture, 0)
    one, other = worker_group(2).run(first_weights, arguments)
    assert {*one} - {*wanted} == {"hidden_projections.0.weight", "hidden_projections.0.bias"}
    assert all(torch.equal(one[name], wanted[name]) for name in wanted)
    assert all(torch.equal(one[name], other[name]) for name in one)
    said = worker_group(2).run(train, arguments)
    assert f", from {model}" in said[0]
    losses = lines(tmp_path / "run", ("distillation_loss", "hidden_loss"))
    assert len(losses) == 6
    assert losses[-1][1] < losses[0][1]
