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
from pretrain.distributed import PlannedRanks, Ranks
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
    described: dict[str, Any]  # what a later resume must match: config and manifests

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
    described = to_dict(config) | {"manifests": [manifest.fingerprint() for manifest in manifests]}
    checkpoint = find_checkpoint(run_dir / "checkpoints", ranks, hash_files=hash_checkpoint)
    if checkpoint is not None:
        saved, step = checkpoint.run, checkpoint.state.step
        ranks.together(
            lambda: require_resumable(saved, described, step=step, allow=config.resume.allow, where=config.run_dir)
        )
    return Checked(plan=plan, shards=shards, manifests=manifests, checkpoint=checkpoint, described=described)


def check_own_shards(shards: list[ShardDirectory], manifests: list[Manifest], ranks: Ranks | PlannedRanks) -> None:
    """Check existence and size of this rank's share of all shards. Raises ShardError naming the shard."""
    for directory, manifest in zip(shards, manifests, strict=True):
        directory.check_sizes(ranks.share(all_shards(manifest)))


def all_shards(manifest: Manifest) -> list[ShardInfo]:
    """Return the shards of all splits."""
    return [shard for split in sorted(manifest.splits) for shard in manifest.splits[split]]
