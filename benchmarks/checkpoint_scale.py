"""`python -m benchmarks.checkpoint_scale`: saves and restores of BERT-large at 8 ranks: bytes, memory and seconds."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.bert import build_bert, compose_config, make_up_moments, require_made_up_moments
from benchmarks.footprint import watch_memory, watch_reads
from benchmarks.ranks import run_on_ranks
from benchmarks.report import asks_for_quick, megabytes, print_report
from pretrain.checkpoint.restore import find_checkpoint, restore
from pretrain.checkpoint.save import BYTES_PER_ELEMENT, tag_of
from pretrain.checkpoint.saver import Saver
from pretrain.distributed import Ranks
from pretrain.engine import Engine
from pretrain.phases import RunState

STAGES = (2, 3)
SAVES = 3
HEADER = [
    *("ZeRO stage, ranks", "own", "moved", "hashed", "memory", "own / whole", "memory / whole", "all ranks"),
    *("stall or restore, s", "complete, s"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one rank saw: bytes and seconds."""

    own: int  # fp32 weights and moments of this rank's fragments
    whole: int  # of all parameters
    moved: int  # written to its file, or read out of files for its fragments
    hashed: int  # read to check a sha256
    memory: int  # growth of resident memory at its highest
    stall: float  # that the training waits
    complete: float


def main() -> None:
    """Save and restore at every stage and print the table."""
    quick = asks_for_quick(__doc__)
    model, ranks, fewer = ("tiny", 2, 1) if quick else ("large", 8, 4)
    rows = []
    for stage in STAGES:
        overrides = [f"model={model}", f"engine.zero_stage={stage}", "checkpoint.keep_last=1"]
        with tempfile.TemporaryDirectory(prefix="lambert-benchmark-") as folder:
            saved = run_on_ranks(ranks, measure_save, Path(folder), overrides)
            rows.append(describe(f"{stage}, save, {ranks}", saved))
            for world_size in (ranks, fewer):
                restored = run_on_ranks(world_size, measure_restore, Path(folder), overrides)
                rows.append(describe(f"{stage}, restore, {ranks} → {world_size}", restored))
    print_report(
        HEADER,
        rows,
        notes=[
            f"BERT-{model}, bf16, vocabulary 30,522: {megabytes(saved[0].whole)} MB of fp32 weights and moments as a "
            "whole. Of the rank with most, in MB: its own stretches of that; what it moved to or from files for them; "
            "what it hashed; the growth of its resident memory, mapped files included. All ranks: moved, MB.",
            f"Seconds of the slowest rank. Save, the last of {SAVES}: the training waits for the stall; complete with "
            "the older one pruned. Restore: reading and refreshing alone, and with the check of all hashes.",
        ],
        quick=quick,
    )


def describe(name: str, ranks: list[Measured]) -> list[str]:
    """Return the row of one save or restore."""
    own, memory = max(rank.own for rank in ranks), max(rank.memory for rank in ranks)
    return [
        name,
        megabytes(own),
        megabytes(max(rank.moved for rank in ranks)),
        megabytes(max(rank.hashed for rank in ranks)),
        megabytes(memory),
        f"{own / ranks[0].whole:.1%}",
        f"{memory / ranks[0].whole:.1%}",
        megabytes(sum(rank.moved for rank in ranks)),
        f"{max(rank.stall for rank in ranks):.2f}",
        f"{max(rank.complete for rank in ranks):.2f}",
    ]


def measure_save(ranks: Ranks, directory: Path, overrides: list[str]) -> Measured:
    """Save an engine with made-up moments a few times, as a training does, and measure the last time."""
    config = compose_config(*overrides)
    engine = build_bert(config, ranks, torch.bfloat16)
    make_up_moments(engine)
    with (
        watch_memory() as footprint,
        Saver(directory, config.checkpoint, engine, ranks, run={}, last_step=10**6, warn=refuse) as saver,
    ):
        for step in range(1, SAVES + 1):
            started = time.perf_counter()
            saver.save(RunState(step=step), last=False)
            while {path.name for path in directory.iterdir()} != {"latest", tag_of(step)}:
                time.sleep(0.005)
            complete = time.perf_counter() - started
            stall = saver.metrics()["save_stall_seconds"]
            ranks.together(lambda: None)
    written = (directory / tag_of(SAVES) / f"rank-{ranks.rank:05d}.safetensors").stat().st_size
    own, whole = sizes_of(engine)
    assert isinstance(stall, float)
    return Measured(
        own=own, whole=whole, moved=written, hashed=written, memory=footprint.memory, stall=stall, complete=complete
    )


def measure_restore(ranks: Ranks, directory: Path, overrides: list[str]) -> Measured:
    """Find and restore the checkpoint into an engine without optimizer state, then look at what came."""
    engine = build_bert(compose_config(*overrides), ranks, torch.bfloat16)
    ranks.together(lambda: None)
    with watch_memory() as footprint, watch_reads() as reads:
        started = time.perf_counter()
        checkpoint = find_checkpoint(directory, ranks)
        assert checkpoint is not None
        found = time.perf_counter()
        ranks.together(lambda: restore(engine, checkpoint))
        engine.refresh_weights()
        ended = time.perf_counter()
    require_made_up_moments(engine)
    own, whole = sizes_of(engine)
    hashed = sum(file.bytes for file in checkpoint.files[ranks.rank :: ranks.world_size])
    return Measured(
        own=own,
        whole=whole,
        moved=reads.read,
        hashed=hashed,
        memory=footprint.memory,
        stall=ended - found,
        complete=ended - started,
    )


def sizes_of(engine: Engine) -> tuple[int, int]:
    """Return the bytes of fp32 weights and moments of this rank's fragments, and of the whole model."""
    own = sum(fragment.numel for fragment in engine.layout.fragments)
    return BYTES_PER_ELEMENT * own, BYTES_PER_ELEMENT * sum(shape.numel() for shape in engine.layout.shapes.values())


def refuse(warning: str) -> None:
    """Raise RuntimeError: a save that failed is no measurement."""
    raise RuntimeError(warning)


if __name__ == "__main__":
    main()
