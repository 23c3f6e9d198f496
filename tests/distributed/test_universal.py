"""DeepSpeed's own universal checkpoint, made from the same engine, holds the very numbers that ours holds."""

import argparse
import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch

from pretrain.checkpoint.fragments_file import KINDS, FragmentReader
from pretrain.checkpoint.restore import read_checkpoint
from pretrain.checkpoint.save import tag_of
from pretrain.distributed import Ranks
from pretrain.step import accumulate_gradients
from tests.distributed.runs import engine_overrides, tiny_config, tiny_engine
from tests.distributed.saves import save_now
from tests.distributed.test_lamb import step_feed


def save_both_ways(ranks: Ranks, shards: Path, directory: Path, overrides: list[str]) -> Path:
    """Train three steps, save ours and DeepSpeed's; return ours."""
    config = tiny_config(shards, directory, *overrides)
    engine = tiny_engine(config, ranks)
    feed = step_feed(ranks, shards, config)
    for step in range(3):
        accumulate_gradients(engine, next(feed), ranks.device, seed=3, phase=0, step=step)
        engine.step(0.01)
    feed.close()
    save_now(directory / "ours", config, engine, ranks, step=3)
    with redirect_stdout(io.StringIO()):
        engine.deepspeed_engine.save_checkpoint(str(directory / "theirs"), tag="step", save_latest=False)
    return directory / "ours" / tag_of(3)


def convert_to_universal(source: Path, target: Path) -> None:
    from deepspeed.checkpoint.ds_to_universal import main

    options = {
        "num_extract_workers": 1,
        "num_merge_workers": 1,
        "keep_temp_folder": False,
        "strict": True,
        "inject_missing_state": True,
    }
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        main(argparse.Namespace(input_folder=str(source), output_folder=str(target), **options))


@pytest.mark.parametrize(
    ("world_size", "stage", "precision"),
    [(2, 2, "bf16"), pytest.param(3, 1, "bf16", marks=pytest.mark.slow), (2, 3, "fp32")],
)
def test_our_checkpoint_holds_what_deepspeeds_universal_one_holds(
    worker_group, shards, tmp_path, world_size, stage, precision
):
    overrides = engine_overrides(stage, precision)
    ours, *_ = worker_group(world_size).run(save_both_ways, shards, tmp_path, overrides)
    convert_to_universal(tmp_path / "theirs" / "step", tmp_path / "universal")
    checkpoint = read_checkpoint(ours)
    reader = FragmentReader(ours, checkpoint.files)
    for name, shape in checkpoint.shapes.items():
        for kind in KINDS:
            stored = torch.load(tmp_path / "universal" / "zero" / name / f"{kind}.pt", weights_only=False)
            theirs = stored["param"] if isinstance(stored, dict) else stored  # at stage 3: flat, with its padding
            mine = torch.empty(torch.Size(shape).numel())
            reader.read_into(mine, name=name, kind=kind, start=0)
            assert torch.equal(mine, theirs.view(-1)[: len(mine)]), (name, kind)
        assert reader.updates(name) == 3
