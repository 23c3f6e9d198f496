"""`python -m pretrain.check`: what a start would refuse is refused before the queue, with the nearest right value."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from conf.compose import compose
from data_prep.manifest import TRAIN, read_manifest
from pretrain import distributed
from pretrain.check import main
from pretrain.checkpoint.save import CHECKPOINT_VERSION, COMPLETE_NAME, tag_of
from pretrain.config import PretrainConfig
from pretrain.distributed import PlannedRanks
from pretrain.phases import RunState
from pretrain.run_check import check
from tests.distributed.runs import TINY, engine_overrides
from tests.shards import write_shards


@pytest.fixture
def shards(tmp_path) -> Path:
    return write_shards(tmp_path / "shards")


def command(shards: Path, *overrides: str) -> list[str]:
    run_dir = shards.parent / "runs" / "tiny"
    return [f"shards_dir={shards}", f"run_dir={run_dir}", *TINY, *engine_overrides(1, "fp32"), *overrides]


def write_checkpoint(shards: Path, *, step: int) -> Path:
    """Write a tag as a run of `command` leaves it, but for its weights; return its one file."""
    config = compose("pretrain", PretrainConfig, command(shards))
    tag = Path(config.run_dir) / "checkpoints" / tag_of(step)
    tag.mkdir(parents=True)
    (tag / "rank-00000.safetensors").write_bytes(b"weights")
    file = {"name": "rank-00000.safetensors", "bytes": 7, "sha256": "not looked at", "fragments": []}
    content = {
        "checkpoint_version": CHECKPOINT_VERSION,
        "state": asdict(RunState(step=step)),
        "shapes": {"weight": [10, 3]},
        "files": [file],
        "run": check(config, PlannedRanks(world_size=1)).described,
    }
    (tag / COMPLETE_NAME).write_text(json.dumps(content))
    return tag / "rank-00000.safetensors"


def refusal(capsys, arguments: list[str]) -> str:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_a_right_command_is_told_what_was_looked_at_and_nothing_is_left_behind(shards, capsys):
    before = sorted(shards.parent.rglob("*"))
    assert main(["world_size=4", *command(shards)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "ranks: 4 for 6 streams; ZeRO stage 1, fp32" in said.out
    assert "4 ranks do not divide 6 streams: 25% of the micro-steps only wait; 3 ranks would waste nothing" in said.out
    assert re.search(r"20 steps of 12 sequences = 2\.\d+ epochs of 91", said.out)
    assert re.search(r"shards: 4 in \S+shards, 4 of them looked at", said.out)
    assert "a run from scratch" in said.out
    assert re.search(r"disk: 1 more checkpoint of up to 0\.00\d GB", said.out), "20 steps are saved once, at the end"
    assert "W&B: disabled" in said.out
    assert "grace" not in said.out
    assert sorted(shards.parent.rglob("*")) == before


def test_help_says_what_to_write(capsys):
    assert main(["--help"]) == 0
    assert "python -m pretrain.check world_size=N [grace_seconds=S]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"world_size is missing: give world_size=N, the number of ranks"),
        (["world_size=0"], r"world_size='0' is not valid"),
        (["world_size=2x8"], r"world_size='2x8' is not valid"),
        (["world_size=7"], r"data\.num_streams=6 is not valid: there are 7 ranks.*start at most 6"),
        (["world_size=2", "grace_seconds=soon"], r"grace_seconds='soon' is not valid"),
        (["world_size=2", "data.global_batch_size=13"], r"global_batch_size=13 is not valid.*nearest: 12 or 18"),
        (["world_size=2", "max_step=3"], r"Did you mean max_steps"),
        (["world_size=2", "engine.zero_stage=0", "engine.precision=fp16"], r"0 with fp16.*use stage 1, 2"),
        (["world_size=2", "model.max_position_embeddings=16"], r"max_position_embeddings=16.*up to 24 tokens"),
        (
            ["world_size=2", "checkpoint.keep_last=999999999", "max_steps=999999999", "checkpoint.save_every=1"],
            r"checkpoint\.keep_last=999999999 is not valid: .* GB are free; nearest: \d+, or name another run_dir",
        ),
        (["world_size=2", "run_dir=/proc/self/runs/tiny"], r"run_dir=/proc/self/runs/tiny: cannot write there"),
    ],
)
def test_a_wrong_command_is_refused_in_one_line(shards, capsys, arguments, message):
    said = refusal(capsys, [*command(shards), *arguments])
    assert re.search(message, said), said
    assert (said.startswith("error: "), len(said.splitlines())) == (True, 1)


def test_a_shard_that_is_missing_is_named(shards, capsys):
    (shards / read_manifest(shards).splits[TRAIN][1].name).unlink()
    assert re.search(
        r"train-000-00001-000\.tar is missing but the manifest lists it",
        refusal(capsys, ["world_size=2", *command(shards)]),
    )


def test_of_many_shards_some_are_looked_at_evenly_spread_and_the_line_says_so(shards, capsys, monkeypatch):
    monkeypatch.setattr(distributed, "MOST_LOOKED_AT", 2)
    assert main(["world_size=2", *command(shards)]) == 0
    assert "shards: 4 in" in (said := capsys.readouterr().out)
    assert "2 of them looked at" in said
    monkeypatch.setattr(distributed, "MOST_LOOKED_AT", 4)
    assert PlannedRanks(world_size=9).share(range(10)) == [0, 3, 6, 9]
    assert list(PlannedRanks(world_size=9).share(range(4))) == [0, 1, 2, 3]


def test_a_run_goes_on_or_is_refused_as_its_checkpoint_says(shards, capsys):
    file = write_checkpoint(shards, step=7)
    assert main(["world_size=2", *command(shards)]) == 0
    assert "its run goes on from step 7 of 20" in capsys.readouterr().out
    assert main(["world_size=2", *command(shards), "max_steps=7"]) == 0
    said = capsys.readouterr().out
    assert "its run is done, at step 7" in said
    assert "disk: 0 more checkpoints" in said
    said = refusal(capsys, ["world_size=2", *command(shards), "seed=5"])
    assert re.search(r"run of another kind: seed was 0, now 5", said)
    file.write_bytes(b"weig")
    said = refusal(capsys, ["world_size=2", *command(shards)])
    assert "is damaged" in said
    assert "error: none of the 1 checkpoints" in said


def test_the_grace_is_held_against_what_the_run_has_measured(shards, capsys):
    arguments = ["world_size=2", *command(shards)]
    assert main([*arguments, "grace_seconds=60"]) == 0
    assert "grace: 60 s; nothing is measured yet" in capsys.readouterr().out
    run_dir = shards.parent / "runs" / "tiny"
    run_dir.mkdir(parents=True)
    (run_dir / "metrics.jsonl").write_text('{"step": 1, "step_seconds": 10.0, "save_seconds": 30.5}\n')
    assert re.search(
        r"grace_seconds=60\.0 is not valid: at least 71", refusal(capsys, [*arguments, "grace_seconds=60"])
    )
    assert main([*arguments, "grace_seconds=71"]) == 0
    assert "grace: 71 s for a step of 10.0 s and two saves of 30.5 s" in capsys.readouterr().out
