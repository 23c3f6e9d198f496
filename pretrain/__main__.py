"""`torchrun … -m pretrain shards_dir=DIR run_dir=DIR …`: train, or go on with the training that `run_dir` holds."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from conf.compose import compose, to_dict
from data_prep.manifest import HELD_OUT, TRAIN, Manifest
from pretrain.checkpoint.restore import Checkpoint, find_checkpoint, restore
from pretrain.checkpoint.save import save_checkpoint
from pretrain.config import PretrainConfig
from pretrain.data.order import streams_of
from pretrain.data.reader import BlockReader, ShardDirectory
from pretrain.distributed import FailureElsewhereError, Ranks, report_failure, start_ranks
from pretrain.engine import Engine, build_engine
from pretrain.evaluate import evaluate
from pretrain.loop import Actions, Intervals, train
from pretrain.model.bert import BertForPretraining
from pretrain.phases import RunState, locate, total_steps
from pretrain.preflight import Plan, make_plan
from pretrain.resume import require_resumable
from pretrain.run_directory import prepare_run_directory, require_shared
from pretrain.seeds import model_seed
from pretrain.step import PhaseData, run_steps
from pretrain.stop import StopRequest
from pretrain.track.metrics import Record, step_metrics
from pretrain.track.recorder import Recorder, open_recorder
from pretrain.track.run_files import ensure_run_id

EXIT_USER_ERROR = 2


def main(arguments: Sequence[str]) -> int:
    """Run one process of a training; return its exit code: 0 when done or stopped on request, 2 for a user's error."""
    stop = StopRequest()  # first of all: a launcher that tears the ranks down must not cut off the message of one
    try:
        config = compose("pretrain", PretrainConfig, arguments)
    except ValueError as error:
        is_first = os.environ.get("RANK", "0") == "0"
        report_failure(error if is_first else FailureElsewhereError(str(error)))
        return EXIT_USER_ERROR
    ranks = start_ranks(config.engine.collective_timeout_seconds)
    try:
        run(config, ranks, stop)
    except (ValueError, OSError) as error:
        report_failure(error)
        return EXIT_USER_ERROR
    finally:
        dist.destroy_process_group()
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What is known once nothing about the command can be wrong any more."""

    plan: Plan
    shards: list[ShardDirectory]  # one per phase
    manifests: list[Manifest]
    checkpoint: Checkpoint | None
    described: dict[str, Any]  # what a later resume must match: config and manifests

    @property
    def state(self) -> RunState:
        """Where the run stands."""
        return RunState() if self.checkpoint is None else self.checkpoint.state


def run(config: PretrainConfig, ranks: Ranks, stop: StopRequest) -> None:
    """Check everything that can be checked, build the parts, hand them to the loop. All ranks call it together."""
    checked = check(config, ranks)
    run_dir, state, total = Path(config.run_dir), checked.state, total_steps(config.phases)
    last_step = min(total, config.stop_after or total)
    if state.step >= last_step:
        if ranks.is_first:
            print(f"already done: {run_dir} stands at step {state.step:,} of {total:,}", file=sys.stderr)
        return
    ranks.broadcast(lambda: prepare_run_directory(run_dir, to_dict(config), checked.shards, checked.manifests))
    run_id = ranks.broadcast(lambda: ensure_run_id(run_dir))
    ranks.together(lambda: require_shared(run_dir, run_id))
    engine = start_engine(config, checked, ranks)
    phases = phase_data(config, checked, ranks)
    with ranks.together(lambda: start_recorder(config, ranks, start_step=state.step, total_steps=total)) as recorder:
        for note in (describe_start(engine, ranks, checked.checkpoint), *checked.plan.notes):
            recorder.note(note)
        final = train(
            run_steps(engine, phases, ranks, state=state, last_step=last_step, seed=config.seed, stop=stop),
            state=state,
            last_step=last_step,
            total_steps=total,
            every=intervals(config),
            do=actions(config, checked, engine, ranks, recorder),
        )
        recorder.note(describe_end(final, total, run_dir, stop))


def check(config: PretrainConfig, ranks: Ranks) -> Checked:
    """Hold config, shards, ranks and checkpoint against each other; fill in `config.model` from the shards.

    Raises ValueError or OSError on every rank, before anything is written or built.
    """
    shards = ranks.together(lambda: [ShardDirectory(phase.shards_dir) for phase in config.phases])
    manifests = ranks.broadcast(lambda: [directory.read_manifest() for directory in shards])
    for directory, manifest in zip(shards, manifests, strict=True):
        directory.use(manifest)
    plan = ranks.together(
        lambda: make_plan(
            manifests,
            phases=config.phases,
            model=config.model,
            engine=config.engine,
            evaluation=config.evaluation,
            seed=config.seed,
            world_size=ranks.world_size,
        )
    )
    ranks.together(lambda: check_own_shards(shards, manifests, ranks))
    config.model = plan.model
    described = to_dict(config) | {"manifests": [manifest.fingerprint() for manifest in manifests]}
    checkpoint = find_checkpoint(Path(config.run_dir) / "checkpoints", ranks)
    if checkpoint is not None:
        saved, step = checkpoint.run, checkpoint.state.step
        ranks.together(
            lambda: require_resumable(saved, described, step=step, allow=config.resume.allow, where=config.run_dir)
        )
    return Checked(plan=plan, shards=shards, manifests=manifests, checkpoint=checkpoint, described=described)


def check_own_shards(shards: list[ShardDirectory], manifests: list[Manifest], ranks: Ranks) -> None:
    """Check existence and size of this rank's share of all shards. Raises ShardError naming the shard."""
    for directory, manifest in zip(shards, manifests, strict=True):
        listed = [shard for split in sorted(manifest.splits) for shard in manifest.splits[split]]
        directory.check_sizes(listed[ranks.rank :: ranks.world_size])


def start_engine(config: PretrainConfig, checked: Checked, ranks: Ranks) -> Engine:
    """Return the model under DeepSpeed, with the checkpoint's weights and optimizer state if there is one."""
    if config.engine.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.manual_seed(model_seed(config.seed))
    plan, checkpoint = checked.plan, checked.checkpoint
    model = ranks.together(lambda: BertForPretraining(plan.model, config.kernels, with_pairs=plan.with_pairs))
    engine = build_engine(model.to(ranks.device), config.engine, config.optimizer)
    if checkpoint is not None:
        ranks.together(lambda: restore(engine, checkpoint))
        engine.refresh_weights()
    return engine


def start_recorder(config: PretrainConfig, ranks: Ranks, *, start_step: int, total_steps: int) -> Recorder:
    """Return what this rank reports to. Raises ValueError when a tracker cannot start."""
    return open_recorder(
        config.tracking,
        rank=ranks.rank,
        run_dir=Path(config.run_dir),
        run_config=to_dict(config),
        start_step=start_step,
        total_steps=total_steps,
    )


def phase_data(config: PretrainConfig, checked: Checked, ranks: Ranks) -> list[PhaseData]:
    """Return every phase with its order and a reader for this rank's streams."""
    phases = []
    for phase, order, directory, manifest in zip(
        config.phases, checked.plan.orders, checked.shards, checked.manifests, strict=True
    ):
        own_streams = streams_of(ranks.rank, world_size=ranks.world_size, num_streams=order.num_streams)
        reader = BlockReader(directory, manifest.splits[TRAIN], len(own_streams))
        phases.append(PhaseData(config=phase, order=order, reader=reader))
    return phases


def intervals(config: PretrainConfig) -> Intervals:
    """Return how often things are done, in steps."""
    return Intervals(log=config.tracking.log_every, evaluate=config.evaluation.every, save=config.checkpoint.save_every)


def actions(config: PretrainConfig, checked: Checked, engine: Engine, ranks: Ranks, recorder: Recorder) -> Actions:
    """Return what the loop does after a step."""
    vocab_size = config.model.vocab_size
    assert vocab_size is not None
    held_out = [
        BlockReader(directory, manifest.splits.get(HELD_OUT, []), num_streams=1)
        for directory, manifest in zip(checked.shards, checked.manifests, strict=True)
    ]

    def evaluate_phase(state: RunState) -> Record:
        phase = locate(config.phases, state.step - 1).phase
        return evaluate(
            engine.module,
            held_out[phase],
            checked.manifests[phase].splits[HELD_OUT],
            ranks,
            max_sequences=config.evaluation.max_sequences,
            micro_batch_size=config.phases[phase].data.micro_batch_size,
            vocab_size=vocab_size,
        )

    def save(state: RunState) -> None:
        directory = Path(config.run_dir) / "checkpoints"
        save_checkpoint(directory, engine, state, ranks, keep_last=config.checkpoint.keep_last, run=checked.described)

    return Actions(
        speed=lambda sums: step_metrics(
            sums, model=config.model, num_devices=ranks.world_size, peak_tflops=config.tracking.peak_tflops
        ),
        evaluate=evaluate_phase,
        save=save,
        # Together: a full disk under rank 0 must not leave the others waiting.
        record=lambda record: ranks.together(lambda: recorder.record(record)),
        progress=recorder.progress,
    )


def describe_start(engine: Engine, ranks: Ranks, checkpoint: Checkpoint | None) -> str:
    """Return one line on what starts."""
    parameters = sum(shape.numel() for shape in engine.layout.shapes.values())
    begin = "from scratch" if checkpoint is None else f"from {checkpoint.directory.name}"
    return f"{parameters / 1e6:.1f} M parameters on {ranks.world_size} × {ranks.device.type}, {begin}"


def describe_end(state: RunState, total: int, run_dir: Path, stop: StopRequest) -> str:
    """Return one line on where the run stands and what to do next."""
    if state.step >= total:
        return f"done: {state.step:,} steps; next: python -m pretrain.export run_dir={run_dir} output_dir=DIR"
    why = f" on {stop.reason}" if stop.reason else ""
    return f"stopped{why} after step {state.step:,} of {total:,}, saved; the same command goes on from there"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
