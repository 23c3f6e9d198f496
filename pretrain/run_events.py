"""What a start tells `events.jsonl`: how many ranks on how many hosts, which engine, where it goes on."""

from collections.abc import Sequence
from pathlib import Path

from pretrain.checkpoint.save import list_tags, step_of, tag_of
from pretrain.config import PretrainConfig
from pretrain.distributed import Ranks
from pretrain.track.events import write_start
from pretrain.track.provenance import own_git_state


def record_start(config: PretrainConfig, ranks: Ranks, hosts: Sequence[str], *, step: int, total_steps: int) -> None:
    """Add this start, from `step`, to the run's events; `hosts` are the ranks'. All ranks call it together.

    It comes before the start touches metrics, status or checkpoints: their times tell when the last one was killed.
    Tags beyond `step` are damaged, or the run would go on from the newest of them. Raises OSError on all ranks.
    """
    run_dir = Path(config.run_dir)

    def write() -> None:
        write_start(
            run_dir,
            damaged=[tag for tag in list_tags(run_dir / "checkpoints") if step_of(tag) > step],
            step=step,
            total_steps=total_steps,
            checkpoint=tag_of(step) if step else None,
            world_size=ranks.world_size,
            hosts=len(set(hosts)),
            device=ranks.device.type,
            precision=config.engine.precision.value,
            zero_stage=config.engine.zero_stage,
            git=own_git_state(),
        )

    ranks.broadcast(write)
