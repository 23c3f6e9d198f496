"""Every mistake ends with one clear message, exit code 2 on every rank, within seconds."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.manifest import MANIFEST_NAME, TRAIN, read_manifest
from data_prep.shard_format import decode_index, index_name
from pretrain.agreement import PACKAGES
from pretrain.track.metrics_file import read_metrics
from tests.distributed.runs import TINY, engine_overrides
from tests.integration.ranks import ROOT, run_ranks, start_ranks, wait_for
from tests.shards import write_shards


@pytest.fixture
def shards(tmp_path) -> Path:
    return write_shards(tmp_path / "shards")


def command(shards: Path, *overrides: str) -> list[str]:
    run_dir = shards.parent / "run"
    return [f"shards_dir={shards}", f"run_dir={run_dir}", *TINY, *engine_overrides(1, "fp32"), *overrides]


def remove_manifest(shards: Path) -> None:
    (shards / MANIFEST_NAME).unlink()


def remove_shard(shards: Path) -> None:
    (shards / read_manifest(shards).splits[TRAIN][1].name).unlink()


def cut_shard(shards: Path) -> None:
    path = shards / read_manifest(shards).splits[TRAIN][1].name
    path.write_bytes(path.read_bytes()[:-700])


def other_format(shards: Path) -> None:
    path = shards / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 9}))


def flip_bytes_in_every_block(shards: Path) -> None:
    for shard in read_manifest(shards).splits[TRAIN]:
        path = shards / shard.name
        data = bytearray(path.read_bytes())
        for place in decode_index((shards / index_name(shard.name)).read_bytes()):
            data[int(place["offset"]) + 700] ^= 255
        path.write_bytes(data)


def nothing(shards: Path) -> None:
    pass


BROKEN_PAIR = ("engine.zero_stage=0", "engine.precision=fp16")

CASES: list[tuple[str, Callable[[Path], None], list[str], int, str]] = [
    ("unknown key", nothing, ["data.global_batch=3"], 2, r"Did you mean data\.global_batch_size"),
    ("no manifest", remove_manifest, [], 2, r"shards has no manifest\.json: it is not a shard directory.*data_prep"),
    ("missing shard", remove_shard, [], 2, r"train-000-00001-000\.tar is missing but the manifest lists it"),
    ("cut shard", cut_shard, [], 2, r"train-000-00001-000\.tar has \d+ bytes, the manifest says \d+"),
    ("other format", other_format, [], 2, r"format version 9, this release reads 1"),
    ("vocabulary", nothing, ["model.vocab_size=99"], 2, r"model\.vocab_size=99.*vocabulary has 64 entries"),
    ("ranks", nothing, [], 7, r"data\.num_streams=6.*7 ranks.*at most 6"),
    ("positions", nothing, ["model.max_position_embeddings=16"], 2, r"max_position_embeddings=16.*up to 24 tokens"),
    ("broken pair", nothing, [*BROKEN_PAIR], 2, r"0 with fp16.*use stage 1, 2"),
    (
        "offload",
        nothing,
        ["engine.zero_stage=0", "engine.offload_optimizer=true"],
        2,
        r"offload_optimizer=True.*1, 2 and",
    ),
    ("apex", nothing, ["kernels=apex"], 2, r"kernels.*apex"),
    (
        "too many streams",
        nothing,
        ["data.num_streams=600", "data.global_batch_size=1200"],
        2,
        r"600 is more than the 91",
    ),
]
# What finds the other mistakes has tests in tests/unit.
ALWAYS = {"unknown key", "no manifest", "cut shard", "vocabulary", "ranks"}


@pytest.mark.parametrize(
    ("change", "overrides", "world_size", "message"),
    [pytest.param(*case[1:], id=case[0], marks=() if case[0] in ALWAYS else pytest.mark.slow) for case in CASES],
)
def test_a_mistake_is_named_once_and_ends_every_rank(shards, change, overrides, world_size, message):
    change(shards)
    results = run_ranks(world_size, command(shards, *overrides))
    assert [code for code, _ in results] == [2] * world_size
    said = [line for _, output in results for line in output.splitlines() if line.strip()]
    assert len(said) == 1, said
    assert said[0].startswith("error: ")
    assert re.search(message, said[0]), said[0]


def test_a_mistake_in_the_arguments_of_one_rank_is_named_by_it_and_ends_the_others_too(shards):
    results = wait_for(start_ranks(2, command(shards), last_rank=["data.global_batch=3"]))
    assert [code for code, _ in results] == [2, 2]
    assert re.match(r"error: .*Did you mean data\.global_batch_size", results[1][1])
    assert results[0][1] == ""


def test_another_release_on_one_rank_is_named_though_it_knows_other_arguments_and_goes_on_otherwise(shards):
    other = shards.parent / "node-2"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, other / package, ignore=shutil.ignore_patterns("__pycache__"))
    joining = other / "pretrain" / "distributed.py"
    joining.write_text(joining.read_text().replace("for name in groups}", "for name in [*groups][:2]}"))
    arguments = other / "conf" / "pretrain.yaml"
    arguments.write_text(arguments.read_text().replace("max_bad_steps", "most_bad_steps"))
    results = wait_for(start_ranks(2, command(shards), last_root=other))
    assert [code for code, _ in results] == [2, 2]
    files = r"conf/pretrain\.yaml; pretrain/distributed\.py"
    assert re.fullmatch(rf"error: rank 1 on \S+ runs other code than rank 0: {files}: install .*\n", results[1][1])
    assert (results[0][1], (shards.parent / "run").exists()) == ("", False)


def test_a_port_in_use_is_named_and_a_rank_that_gets_no_answer_there_gives_up(shards):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        patience = "engine.collective_timeout_seconds=3"
        (first, said), (second, unanswered) = wait_for(start_ranks(2, command(shards, patience), port=port))
    assert (first, second) == (1, 1)
    assert re.search(rf"^error: MASTER_PORT={port} is in use on \S+ by another program", said, re.MULTILINE)
    assert re.search(rf"^error: rank 1 of 2 could not join .*:{port} \(no answer: ", unanswered, re.MULTILINE)
    assert "Traceback" not in said + unanswered


def test_online_tracking_without_a_key_is_refused_before_anything_is_written(shards, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(shards))
    results = run_ranks(2, command(shards, "tracking.wandb=online"))
    assert [code for code, _ in results] == [2, 2]
    assert re.match(r"error: tracking\.wandb=online is not possible: .*WANDB_API_KEY", results[0][1])
    assert (results[1][1], (shards.parent / "run").exists()) == ("", False)


def test_an_altered_block_is_named_when_it_is_read_and_no_rank_hangs(shards):
    flip_bytes_in_every_block(shards)
    results = run_ranks(2, command(shards))
    assert [code for code, _ in results] == [2, 2]
    errors = [line for _, output in results for line in output.splitlines() if line.startswith("error: ")]
    assert errors
    for error in errors:
        assert re.search(r"train-000-0000\d-000\.tar, block \d: .*checksum", error), error
    assert "Traceback" not in "".join(output for _, output in results)


def test_an_unwritable_run_directory_is_named(shards):
    (shards.parent / "run").write_text("a file where the directory should be")
    results = run_ranks(2, command(shards))
    assert [code for code, _ in results] == [2, 2]
    assert re.search(r"error: run_dir=\S*run: cannot write there", "".join(output for _, output in results))


def test_a_run_directory_of_another_model_or_recipe_is_refused_and_left_as_it_is(shards):
    assert [code for code, _ in run_ranks(2, command(shards, "stop_after=2"))] == [0, 0]
    kept = {path: path.read_bytes() for path in (shards.parent / "run").rglob("*") if path.is_file()}
    for override, message in (
        ("model.hidden_size=64", r"run of another kind: model\.hidden_size was 32, now 64"),
        ("seed=5", r"run of another kind: seed was 0, now 5"),
        ("optimizer.beta2=0.9", r"optimizer\.beta2 was 0\.999, now 0\.9.*resume\.allow=\[optimizer\.beta2\]"),
    ):
        results = run_ranks(2, command(shards, override))
        assert [code for code, _ in results] == [2, 2]
        assert re.search(message, "".join(output for _, output in results))
    assert kept == {path: path.read_bytes() for path in (shards.parent / "run").rglob("*") if path.is_file()}


def test_torchrun_reports_the_mistake_and_fails(shards):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "pretrain"]
    result = subprocess.run(
        [*torchrun, *command(shards, *BROKEN_PAIR)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode != 0
    message = "engine.zero_stage, engine.precision='0 with fp16' is not valid"
    assert result.stderr.count(f"error: {message}") == 1
    assert message in result.stderr[result.stderr.index("Root Cause") :], "torchrun's report ends with the reason"


def test_a_signal_to_one_rank_stops_all_of_them_after_the_same_step_with_a_checkpoint(shards):
    arguments = command(shards, "max_steps=100000")
    processes = start_ranks(2, arguments)
    metrics = shards.parent / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not (metrics.is_file() and len(read_metrics(metrics)) >= 3):
        time.sleep(0.1)
    os.kill(processes[1].pid, signal.SIGUSR1)
    results = wait_for(processes)
    assert [code for code, _ in results] == [0, 0]
    last = read_metrics(metrics)[-1]["step"]
    assert (shards.parent / "run" / "checkpoints" / f"step-{last:08d}" / "COMPLETE.json").is_file()
    assert re.search(rf"stopped.* after step {last:,} of 100,000, saved", results[0][1])
