"""What is checked before a run is written or built: config, shards, ranks, checkpoint, run directory, trackers.

All ranks check it together at the start; `python -m pretrain.check` does so alone, before the queue.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.compose import to_dict
from data_prep.manifest import Manifest, ShardInfo
from pretrain.checkpoint.restore import Checkpoint, find_checkpoint
from pretrain.config import PretrainConfig
from pretrain.data.reader import ShardDirectory
from pretrain.distillation.directory import TeacherDirectory, find_teacher
from pretrain.distributed import PlannedRanks, Ranks
from pretrain.initial_weights import InitialWeights, find_initial_weights
from pretrain.phases import RunState
from pretrain.preflight import Plan, make_plan
from pretrain.resume import require_resumable
from pretrain.shared_folder import require_shared
from pretrain.track.trackers import require_ready
from pretrain.tracking_config import require_profiled_ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What is known once nothing about the command can be wrong any more."""

    plan: Plan
    shards: list[ShardDirectory]  # one per phase
    manifests: list[Manifest]
    checkpoint: Checkpoint | None
    teacher: TeacherDirectory | None
    initial: InitialWeights | None  # of a run that has no checkpoint yet
    described: dict[str, Any]  # what a later resume must match: config, manifests and teacher

    @property
    def notes(self) -> list[str]:
        """What the user should know of the run."""
        initial = [] if self.initial is None else [self.initial.note]
        teacher = [] if self.teacher is None else [self.teacher.describe()]
        return [*initial, *self.plan.notes, *teacher]

    @property
    def state(self) -> RunState:
        """Where the run stands."""
        return RunState() if self.checkpoint is None else self.checkpoint.state


def check(config: PretrainConfig, ranks: Ranks | PlannedRanks, *, hash_checkpoint: bool = True) -> Checked:
    """Hold config, shards, ranks and checkpoint against each other; fill in `config.model` from the shards.

    Raises ValueError or OSError on every rank, before anything is written or built. What takes longest, hashing a
    checkpoint's files, comes last.
    """
    run_dir = Path(config.run_dir)
    require_shared(run_dir, ranks)
    ranks.broadcast(lambda: require_ready(config.tracking))
    ranks.together(lambda: require_profiled_ranks(config.profile, ranks.world_size))
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
    longest = max(manifest.max_seq_length for manifest in manifests)
    teacher = ranks.broadcast(
        lambda: find_teacher(config.distillation, plan, shards[0], manifests[0], max_seq_length=longest)
    )
    checkpoint = find_checkpoint(run_dir / "checkpoints", ranks, hash_files=hash_checkpoint)
    initial = _find_initial_weights(plan, shards[0], manifests[0], ranks) if checkpoint is None else None
    described = _describe(config, manifests, teacher, initial, checkpoint)
    if checkpoint is not None:
        saved, step = checkpoint.run, checkpoint.state.step
        ranks.together(
            lambda: require_resumable(saved, described, step=step, allow=config.resume.allow, where=config.run_dir)
        )
    return Checked(
        plan=plan,
        shards=shards,
        manifests=manifests,
        checkpoint=checkpoint,
        teacher=teacher,
        initial=initial,
        described=described,
    )


def _find_initial_weights(
    plan: Plan, shards: ShardDirectory, manifest: Manifest, ranks: Ranks | PlannedRanks
) -> InitialWeights | None:
    """Return what `model.init_from` has, None where weights are drawn; rank 0 looks for all."""
    if plan.model.init_from is None:
        return None
    return ranks.broadcast(
        lambda: find_initial_weights(
            plan.model, shards.read_tokenizer(manifest), with_pairs=plan.with_pairs, shards=shards.url
        )
    )


def _describe(
    config: PretrainConfig,
    manifests: list[Manifest],
    teacher: TeacherDirectory | None,
    initial: InitialWeights | None,
    checkpoint: Checkpoint | None,
) -> dict[str, Any]:
    """Return what a later resume must match; how the run began is what its checkpoint says."""
    described = to_dict(config) | {"manifests": [manifest.fingerprint() for manifest in manifests]}
    if teacher is not None:
        described |= {"teacher_sha256": teacher.sha256, "teacher_model": to_dict(teacher.model)}
    beginning = initial.record if initial is not None else None
    if checkpoint is not None:
        beginning = checkpoint.run.get("initial_weights")
    if beginning is not None:
        described["initial_weights"] = beginning
    return described


def check_own_shards(shards: list[ShardDirectory], manifests: list[Manifest], ranks: Ranks | PlannedRanks) -> None:
    """Check existence and size of this rank's share of all shards. Raises ShardError naming the shard."""
    for directory, manifest in zip(shards, manifests, strict=True):
        directory.check_sizes(ranks.share(all_shards(manifest)))


def all_shards(manifest: Manifest) -> list[ShardInfo]:
    """Return the shards of all splits."""
    return [shard for split in sorted(manifest.splits) for shard in manifest.splits[split]]
