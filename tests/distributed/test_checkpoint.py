"""Checkpoints survive what happens to files: damage, kills inside a save, leftovers, other layouts."""

import io
import json
import shutil
from contextlib import redirect_stderr
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from pretrain.checkpoint.restore import (
    find_checkpoint,
    load_full_weights,
    newest_checkpoint,
    read_checkpoint,
    restore,
)
from pretrain.checkpoint.save import COMPLETE_NAME, list_tags, tag_of
from pretrain.distributed import Ranks
from pretrain.engine import Engine
from pretrain.track.metrics_file import read_metrics
from tests.distributed.runs import STAGES, engine_overrides, full_weights, tiny_config, tiny_engine, train_run
from tests.distributed.saves import save_now


@pytest.fixture
def run_dir(worker_group, shards, tmp_path) -> Path:
    """A run of two ranks that stands at step 6, with tags at 2, 4 and 6."""
    worker_group(2).run(
        train_run, shards, tmp_path / "run", "checkpoint.save_every=2", "checkpoint.keep_last=3", "stop_after=6"
    )
    return tmp_path / "run"


def found_step(ranks: Ranks, run_dir: Path) -> int | str | None:
    try:
        checkpoint = find_checkpoint(run_dir / "checkpoints", ranks)
    except ValueError as error:
        return str(error)
    return None if checkpoint is None else checkpoint.state.step


def found_and_said(ranks: Ranks, run_dir: Path) -> tuple[int | str | None, str]:
    with redirect_stderr(io.StringIO()) as said:
        step = found_step(ranks, run_dir)
    return step, said.getvalue()


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize(
    ("damage", "file", "complaint"),
    [
        (flip_a_byte, "rank-00001.safetensors", "is damaged"),
        (Path.unlink, "rank-00000.safetensors", "is missing"),
        (cut_short, "rank-00001.safetensors", "is damaged"),
        (cut_short, COMPLETE_NAME, "is not a complete checkpoint"),
    ],
    ids=["flipped byte", "missing file", "truncated", "torn account"],
)
def test_a_damaged_newest_checkpoint_is_named_and_gives_way_to_the_one_before(
    worker_group, run_dir, damage, file, complaint
):
    assert worker_group(2).run(found_and_said, run_dir) == [(6, ""), (6, "")]
    damaged = run_dir / "checkpoints" / "step-00000006" / file
    damage(damaged)
    (first, said), other = worker_group(2).run(found_and_said, run_dir)
    assert first == 4
    assert said.count("\n") == 1
    assert f"{damaged} {complaint}" in said
    assert said.endswith("; trying the checkpoint before it\n")
    assert other == (4, "")


def test_a_tag_without_an_account_of_itself_was_never_finished_and_nothing_is_said(worker_group, run_dir):
    (run_dir / "checkpoints" / "step-00000006" / COMPLETE_NAME).unlink()
    assert worker_group(2).run(found_and_said, run_dir) == [(4, ""), (4, "")]


def test_when_none_is_sound_the_run_does_not_start_afresh_behind_the_users_back(worker_group, run_dir):
    for tag in list_tags(run_dir / "checkpoints"):
        flip_a_byte(run_dir / "checkpoints" / tag / "rank-00000.safetensors")
    results = worker_group(2).run(found_step, run_dir)
    assert all("none of the 3 checkpoints" in str(result) for result in results), results


def test_the_run_goes_on_from_the_older_one_and_logs_each_step_once(worker_group, shards, run_dir):
    before = read_metrics(run_dir / "metrics.jsonl")
    flip_a_byte(run_dir / "checkpoints" / "step-00000006" / "rank-00001.safetensors")
    worker_group(2).run(train_run, shards, run_dir, "checkpoint.save_every=2", "stop_after=8")
    after = read_metrics(run_dir / "metrics.jsonl")
    assert [record["step"] for record in after] == list(range(1, 9))
    assert [record["loss"] for record in after[:6]] == [record["loss"] for record in before]
    assert [record["step"] for record in read_metrics(run_dir / "metrics.discarded.jsonl")] == [5, 6]
    assert newest_checkpoint(run_dir).name == "step-00000008"


def test_a_damaged_checkpoint_that_comes_back_does_not_bring_its_branch_back(worker_group, shards, run_dir):
    checkpoints = run_dir / "checkpoints"
    lost = checkpoints / "step-00000006" / "rank-00001.safetensors"
    kept = lost.rename(run_dir / "elsewhere")
    worker_group(2).run(train_run, shards, run_dir, "checkpoint.save_every=50", "stop_after=5")
    assert newest_checkpoint(run_dir).name == "step-00000005"
    assert (checkpoints / "latest").read_text() == "step-00000005\n"
    kept.rename(checkpoints / "discarded-step-00000006" / lost.name)
    worker_group(2).run(train_run, shards, run_dir, "checkpoint.save_every=50", "stop_after=8")
    assert [record["step"] for record in read_metrics(run_dir / "metrics.jsonl")] == list(range(1, 9))


def test_what_a_kill_inside_a_save_leaves_behind_is_ignored_and_overwritten(worker_group, shards, run_dir):
    """A kill before the rename leaves a hidden directory, complete or not."""
    checkpoints = run_dir / "checkpoints"
    for left_over in (".step-00000008.tmp", ".step-00000007.tmp", ".step-00000001.old.tmp"):
        shutil.copytree(checkpoints / "step-00000006", checkpoints / left_over)
        (checkpoints / left_over / "rank-00000.safetensors").write_bytes(b"torn")
    assert worker_group(2).run(found_step, run_dir) == [6, 6]
    worker_group(2).run(train_run, shards, run_dir, "checkpoint.save_every=2", "stop_after=8")
    assert list_tags(checkpoints)[-1] == "step-00000008"
    assert not list(checkpoints.glob(".*"))


def test_keep_last_prunes_the_oldest_and_latest_names_the_newest(worker_group, shards, run_dir):
    worker_group(2).run(
        train_run, shards, run_dir, "checkpoint.save_every=2", "checkpoint.keep_last=2", "stop_after=10"
    )
    assert list_tags(run_dir / "checkpoints") == ["step-00000008", "step-00000010"]
    assert (run_dir / "checkpoints" / "latest").read_text() == "step-00000010\n"


def visible_weights(engine: Engine) -> dict[str, torch.Tensor]:
    """Return what the forward pass sees, in fp32. ZeRO-3 puts a parameter together only while it is used."""
    import deepspeed

    parameters = dict(engine.module.named_parameters())
    with deepspeed.zero.GatheredParameters(list(parameters.values())):
        return {name: parameter.detach().float().clone() for name, parameter in parameters.items()}


def save_and_reload(ranks: Ranks, directory: Path, stages: list[tuple[int, str]]):
    """Save one engine after a real step of random gradients, load into each other layout; return what changed."""
    config = tiny_config(directory, directory, *engine_overrides(*stages[0]))
    engine = tiny_engine(config, ranks)
    generator = torch.Generator().manual_seed(5)
    for fragment in engine.layout.fragments:
        state = engine.optimizer.state[fragment.flat]
        if not state:
            state["step"] = torch.tensor(3.0)
            state["exp_avg"] = torch.randn(fragment.flat.shape, generator=generator)
            state["exp_avg_sq"] = torch.rand(fragment.flat.shape, generator=generator)
    save_now(directory, config, engine, ranks, step=3)
    tag = directory / tag_of(3)
    weights = full_weights(engine, ranks)
    differences = []
    for stage, precision in stages[1:]:
        config = tiny_config(directory, directory, *engine_overrides(stage, precision), "seed=9")
        other = tiny_engine(config, ranks)
        restore(other, read_checkpoint(tag))
        other.refresh_weights()
        loaded = full_weights(other, ranks)
        visible = visible_weights(other)
        steps = {float(state["step"]) for state in other.optimizer.state.values()}
        dtype = next(other.module.parameters()).dtype
        same_visible = all(torch.equal(visible[name], weights[name].to(dtype).float()) for name in weights)
        differences.append((all(torch.equal(loaded[name], weights[name]) for name in weights), same_visible, steps))
    full = load_full_weights(tag)
    whole = all(torch.equal(full[name], weights[name]) for name in weights)
    return differences, whole, [len(file.fragments) for file in read_checkpoint(tag).files]


WRITTEN_BY = [
    (world_size, pair) for pair in ((0, "fp32"), (1, "bf16"), (2, "fp32"), (3, "bf16")) for world_size in (1, 2, 3)
]
ALWAYS = [(1, (0, "fp32")), (2, (2, "fp32")), (3, (3, "bf16"))]


@pytest.mark.parametrize(
    ("world_size", "saved_as"),
    [pytest.param(*case, marks=() if case in ALWAYS else pytest.mark.slow) for case in WRITTEN_BY],
    ids=str,
)
def test_every_layout_reads_what_any_layout_wrote(worker_group, tmp_path, world_size, saved_as):
    for result in worker_group(world_size).run(save_and_reload, tmp_path, [saved_as, *STAGES]):
        differences, whole, fragments = result
        assert differences == [(True, True, {3.0})] * len(STAGES)
        assert whole
        assert all(fragments), "every rank writes its share, also where all hold everything"


def save_and_load_a_loss_scale(ranks: Ranks, directory: Path):
    """The scale is made up: few CPUs can train in fp16."""
    config = tiny_config(directory, directory, *engine_overrides(1, "fp32"))
    engine, loaded = tiny_engine(config, ranks), []
    with (
        patch.object(Engine, "loss_scaler_state", lambda self: {"cur_scale": 512.0, "cur_iter": 7}),
        patch.object(Engine, "load_loss_scaler", lambda self, state: loaded.append(state)),
    ):
        save_now(directory, config, engine, ranks, step=3)
        restore(engine, read_checkpoint(directory / tag_of(3)))
        account = directory / tag_of(3) / COMPLETE_NAME
        content = json.loads(account.read_text())
        del content["loss_scaler"]
        account.write_text(json.dumps(content))
        restore(engine, read_checkpoint(directory / tag_of(3)))
    return loaded


def test_the_loss_scale_is_part_of_a_checkpoint_and_older_ones_have_none(worker_group, tmp_path):
    assert worker_group(1).run(save_and_load_a_loss_scale, tmp_path) == [[{"cur_scale": 512.0, "cur_iter": 7}, {}]]


def test_a_checkpoint_of_another_model_is_named_parameter_by_parameter(worker_group, shards, run_dir):
    (message,) = worker_group(1).run(restore_into_another_model, run_dir)
    assert "is of another model" in message
    assert "is [64] there and [48] here" in message


def restore_into_another_model(ranks: Ranks, run_dir: Path) -> str:
    config = tiny_config(run_dir, run_dir, "model.intermediate_size=48", *engine_overrides(0, "fp32"))
    engine = tiny_engine(config, ranks)
    try:
        restore(engine, read_checkpoint(newest_checkpoint(run_dir)))
    except ValueError as error:
        return str(error)
    return "nothing was raised"
