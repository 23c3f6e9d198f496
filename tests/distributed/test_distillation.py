"""A run with a teacher keeps what every run keeps: any cut of the batch, any resume, an export of the model alone."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from conf.compose import to_dict
from pretrain.checkpoint.restore import newest_checkpoint, read_checkpoint
from pretrain.distributed import PlannedRanks
from pretrain.export import main as export
from pretrain.run_check import check
from pretrain.track.metrics_file import read_metrics
from tests.distributed.runs import EXACT, engine_overrides, lines, tiny_config, train_in_fp16, train_run
from tests.teachers import write_teacher
from tests.unit.pretrain.example_checkpoints import write_tokenizer

STEPS = 6
LAYERS = "distillation.layers=[[1,1],[2,3]]"
NO_DROPOUT = ["model.hidden_dropout_prob=0.0", "model.attention_probs_dropout_prob=0.0"]
LOSSES = ("loss", "mlm_loss", "nsp_loss", "distillation_loss", "hidden_loss")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, shards) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teachers") / "teacher", shards)


def with_teacher(teacher: Path, *overrides: str) -> list[str]:
    """Return overrides of a short run whose student, 32 wide, needs projections to the teacher's 16."""
    chosen = ["distillation=hidden_states", f"distillation.teacher={teacher}", "distillation.hidden_weight=0.5", LAYERS]
    return [*chosen, f"max_steps={STEPS}", *overrides]


@pytest.fixture(scope="module")
def uncut(worker_group, shards, teacher, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("uncut") / "run"
    overrides = with_teacher(teacher, *engine_overrides(0, "fp32"), *NO_DROPOUT, "data.global_batch_size=24")
    worker_group(1).run(train_run, shards, run_dir, *overrides, "data.micro_batch_size=4", "evaluation.every=3")
    return run_dir


@pytest.mark.parametrize(
    ("world_size", "stage", "micro_batch_size"),
    [
        (4, 2, 2),
        pytest.param(2, 3, 1, marks=pytest.mark.slow),
        pytest.param(3, 1, 1, marks=pytest.mark.slow),
        pytest.param(5, 3, 4, marks=pytest.mark.slow),
    ],
)
def test_losses_and_norms_do_not_depend_on_how_the_batch_is_cut(
    worker_group, shards, teacher, uncut, tmp_path, world_size, stage, micro_batch_size
):
    """Four and five ranks do not divide the six streams: fillers run there, with a teacher too."""
    batch = ["data.global_batch_size=24", f"data.micro_batch_size={micro_batch_size}"]
    overrides = with_teacher(teacher, *engine_overrides(stage, "fp32"), *NO_DROPOUT, *batch)
    worker_group(world_size).run(train_run, shards, tmp_path / "run", *overrides)
    whole, cut = (read_metrics(run_dir / "metrics.jsonl") for run_dir in (uncut, tmp_path / "run"))
    assert len(cut) == STEPS
    for one, other in zip(whole, cut, strict=True):
        assert [other[name] for name in LOSSES] == pytest.approx([one[name] for name in LOSSES], rel=1e-5)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)


def test_the_student_learns_from_its_teacher_and_is_evaluated_as_without_one(worker_group, shards, uncut, tmp_path):
    overrides = [*engine_overrides(0, "fp32"), *NO_DROPOUT, "data.global_batch_size=24", "data.micro_batch_size=4"]
    worker_group(1).run(train_run, shards, tmp_path / "run", *overrides, f"max_steps={STEPS}", "evaluation.every=3")
    plain, distilled = (read_metrics(run_dir / "metrics.jsonl") for run_dir in (tmp_path / "run", uncut))
    assert {*distilled[2]} - {*plain[2]} == {"distillation_loss", "hidden_loss", "trust_ratio/hidden_projections.0"} | {
        "trust_ratio/hidden_projections.1"
    }
    assert distilled[0]["mlm_loss"] == plain[0]["mlm_loss"], "the first weights are those of a run without teacher"
    assert distilled[-1]["distillation_loss"] < distilled[0]["distillation_loss"]
    assert distilled[-1]["hidden_loss"] < distilled[0]["hidden_loss"]
    assert distilled[2]["held_out_loss"] == distilled[2]["held_out_mlm_loss"] + distilled[2]["held_out_nsp_loss"]


@pytest.mark.parametrize(
    ("stage", "precision"),
    [(2, "bf16"), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, "fp16"), (3, "fp32")))],
)
def test_a_resumed_run_repeats_every_bit_and_the_teacher_may_have_moved(
    worker_group, shards, teacher, tmp_path, stage, precision
):
    engine, keys = engine_overrides(stage, precision), (*EXACT, "distillation_loss", "hidden_loss")
    moved = shutil.copytree(teacher, tmp_path / "moved")
    group = worker_group(2)
    group.run(train_in_fp16, shards, tmp_path / "whole", *engine, *with_teacher(teacher))
    group.run(train_in_fp16, shards, tmp_path / "cut", *engine, *with_teacher(teacher, "stop_after=3"))
    saved = read_checkpoint(newest_checkpoint(tmp_path / "cut")).shapes
    assert saved["hidden_projections.1.weight"] == [16, 32]
    group.run(train_in_fp16, shards, tmp_path / "cut", *engine, *with_teacher(moved))
    assert len(lines(tmp_path / "whole")) == STEPS
    assert lines(tmp_path / "cut", keys) == lines(tmp_path / "whole", keys)


def test_another_teacher_is_no_resume_of_the_same_run(uncut, shards, teacher, tmp_path):
    other, same_weights = (shutil.copytree(teacher, tmp_path / name) for name in ("other", "same_weights"))
    weights = load_file(other / "model.safetensors")
    save_file({name: 2 * tensor for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"})
    settings = [*engine_overrides(0, "fp32"), *NO_DROPOUT, "data.global_batch_size=24", "data.micro_batch_size=4"]
    config = tiny_config(shards, uncut, *with_teacher(other, *settings))
    assert to_dict(config)["distillation"]["teacher"] == str(other)
    with pytest.raises(ValueError, match=r"teacher_sha256 was '\w{64}', now '\w{64}'.*resume.allow=\[teacher_sha256\]"):
        check(config, PlannedRanks(world_size=1))
    settings_of_model = json.loads((same_weights / "config.json").read_text())
    (same_weights / "config.json").write_text(json.dumps(settings_of_model | {"layer_norm_eps": 1e-5}))
    config = tiny_config(shards, uncut, *with_teacher(same_weights, *settings))
    with pytest.raises(ValueError, match=r"teacher_model\.layer_norm_eps was 1e-12, now 1e-05"):
        check(config, PlannedRanks(world_size=1))


def test_an_export_is_the_model_without_the_projections(uncut, tmp_path):
    run_dir = shutil.copytree(uncut, tmp_path / "run")
    shutil.rmtree(run_dir / "tokenizer")
    write_tokenizer(run_dir / "tokenizer")  # transformers can read it; the shards' is a stub
    assert "hidden_projections.0.weight" in read_checkpoint(newest_checkpoint(run_dir)).shapes
    assert export([f"run_dir={run_dir}", f"output_dir={tmp_path / 'model'}"]) == 0
    assert not [name for name in load_file(tmp_path / "model" / "model.safetensors") if "projection" in name]
