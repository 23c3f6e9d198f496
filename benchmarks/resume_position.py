"""`python -m benchmarks.resume_position`: going on at step 100,000 against going on at step 2, from process start."""

import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import webdataset

from benchmarks.report import asks_for_quick, median_and_quartiles, print_report
from data_prep.manifest import TRAIN, read_manifest, write_manifest
from data_prep.shard_format import index_name
from pretrain.checkpoint.restore import newest_checkpoint
from pretrain.checkpoint.save import COMPLETE_NAME, tag_of
from pretrain.data.order import step_rows
from pretrain.track.metrics_file import METRICS_FILE
from tests.integration.ranks import run_ranks, start_ranks, wait_for
from tests.shards import order_and_reader, write_shards

EARLY, LATE = 2, 100_000
STREAMS, BATCH = 4, 32
RUN_TIMEOUT_SECONDS = 300
REPLAYED_SHARDS = 20
SETTINGS = [
    "model=tiny",
    f"data.num_streams={STREAMS}",
    f"data.global_batch_size={BATCH}",
    "data.micro_batch_size=8",
    "max_steps=200000",
    "engine.precision=fp32",
    "checkpoint.save_every=100000",
    "evaluation.every=0",
    "tracking=none",
    "tracking.log_every=1",
]


def main() -> None:
    """Make shards and the two checkpoints, measure in turn, print the table."""
    quick = asks_for_quick(__doc__)
    num_shards, pairs = (20, 2) if quick else (400, 9)
    with tempfile.TemporaryDirectory(prefix="lambert-benchmark-") as folder:
        shards = write_many_shards(Path(folder) / "shards", num_shards)
        runs = make_runs(Path(folder), shards)
        starts: dict[int, list[float]] = {EARLY: [], LATE: []}
        searches: dict[int, list[float]] = {EARLY: [], LATE: []}
        for number in range(pairs):
            for step in (EARLY, LATE) if number % 2 else (LATE, EARLY):
                starts[step].append(seconds_to_first_step(shards, runs[step], step))
                searches[step].append(seconds_to_search(shards, step, seed=number))
        replay = seconds_to_replay(shards, LATE * BATCH)
        sequences = read_manifest(shards).num_sequences(TRAIN)
    differences = [late - early for early, late in zip(starts[EARLY], starts[LATE], strict=True)]
    rows = [
        [f"{step:,}", median_and_quartiles(starts[step], 2), median_and_quartiles([1e3 * s for s in searches[step]], 2)]
        for step in (EARLY, LATE)
    ]
    print_report(
        ["resumed at step", "start to first finished step, s", "search for the data position alone, ms"],
        rows,
        notes=[
            f"Difference: {median(differences):+.2f} s (median of {pairs} alternating pairs, "
            f"{min(differences):+.2f} to {max(differences):+.2f}). One rank, BERT-tiny, {num_shards} shards, "
            f"{sequences:,} sequences, {BATCH} a step; medians (quartiles).",
            f"A loader without positions would replay {LATE * BATCH:,} sequences: plain WebDataset, reading and "
            f"decoding the same blocks, takes {replay:,.1f} s ({min(REPLAYED_SHARDS, num_shards)} shards, scaled up).",
        ],
        quick=quick,
    )


def write_many_shards(directory: Path, count: int) -> Path:
    """Write one shard of 2,043 sequences under `count` names, hard links of each other, and a manifest of all."""
    write_shards(directory, shards=1, blocks=8, block_size=256)
    manifest = read_manifest(directory)
    (shard,) = manifest.splits[TRAIN]
    names = [f"train-000-{number:05d}-000.tar" for number in range(count)]
    assert names[0] == shard.name
    for name in names[1:]:
        (directory / name).hardlink_to(directory / shard.name)
        (directory / index_name(name)).hardlink_to(directory / index_name(shard.name))
    splits = manifest.splits | {TRAIN: [replace(shard, name=name) for name in names]}
    write_manifest(directory, replace(manifest, splits=splits))
    return directory


def make_runs(folder: Path, shards: Path) -> dict[int, Path]:
    """Train two steps, then make of that run one that stands at step 100,000: its checkpoint under another step."""
    early, late = folder / "early", folder / "late"
    ((code, output),) = run_ranks(1, command(shards, early, EARLY), RUN_TIMEOUT_SECONDS)
    if code != 0:
        raise RuntimeError(f"the training of {EARLY} steps failed: {output}")
    shutil.copytree(early, late)
    tag = newest_checkpoint(late)
    account = json.loads((tag / COMPLETE_NAME).read_text(encoding="utf-8"))
    account["state"] |= {"step": LATE, "sequences_seen": LATE * BATCH}
    (tag / COMPLETE_NAME).write_text(json.dumps(account), encoding="utf-8")
    tag.rename(tag.with_name(tag_of(LATE)))
    return {EARLY: early, LATE: late}


def command(shards: Path, run_dir: Path, stop_after: int) -> list[str]:
    """Return the arguments of `python -m pretrain`."""
    return [f"shards_dir={shards}", f"run_dir={run_dir}", *SETTINGS, f"stop_after={stop_after}"]


def seconds_to_first_step(shards: Path, original: Path, step: int) -> float:
    """Resume a copy of a run for one step; return the seconds from process start to that step's line of metrics."""
    run_dir = shutil.copytree(original, original.with_name("resumed"))
    metrics = run_dir / METRICS_FILE
    size = metrics.stat().st_size
    started = time.perf_counter()
    processes = start_ranks(1, command(shards, run_dir, step + 1))
    while metrics.stat().st_size == size and processes[0].poll() is None:
        time.sleep(0.001)
    seconds = time.perf_counter() - started
    ((code, output),) = wait_for(processes, RUN_TIMEOUT_SECONDS)
    shutil.rmtree(run_dir)
    if code != 0 or f"from {tag_of(step)}" not in output:
        raise RuntimeError(f"the run did not go on from step {step}: {output}")
    return seconds


def seconds_to_search(shards: Path, step: int, *, seed: int) -> float:
    """Return the seconds to find the rows of all streams at a step; order and reader are new, nothing is cached."""
    order, reader = order_and_reader(shards, num_streams=STREAMS, global_batch_size=BATCH, seed=seed)
    started = time.perf_counter()
    for stream in range(STREAMS):
        found = list(step_rows(order, stream=stream, step=step, block_sequences=reader.block_sequences))
        assert sum(len(run.rows) for run in found) == order.sequences_per_step
    return time.perf_counter() - started


def seconds_to_replay(shards: Path, sequences: int) -> float:
    """Return the seconds plain WebDataset would take to read and decode so many sequences, from a few shards."""
    names = [str(shards / shard.name) for shard in read_manifest(shards).splits[TRAIN][:REPLAYED_SHARDS]]
    started = time.perf_counter()
    dataset = webdataset.WebDataset(names, shardshuffle=False).decode()
    read = sum(len(block["sequence_instances.npy"]) for block in dataset)
    return (time.perf_counter() - started) * sequences / read


if __name__ == "__main__":
    main()
