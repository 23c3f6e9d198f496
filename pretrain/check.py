"""`python -m pretrain.check world_size=N [grace_seconds=S] …`: what a start would refuse, found before the queue.

The other arguments are those of `python -m pretrain`. No process group, no GPU; nothing is left behind.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from conf.checks import require
from pretrain.checkpoint.room import require_room
from pretrain.checkpoint.save import list_tags
from pretrain.data.storage import PIPE
from pretrain.distillation.student import projection_elements
from pretrain.distributed import PlannedRanks
from pretrain.grace import require_grace
from pretrain.init_from import compose_run
from pretrain.model.size import count_parameters
from pretrain.phases import total_steps
from pretrain.run_check import Checked, all_shards, check
from pretrain.tracking_config import WandbMode

OWN = WORLD_SIZE, GRACE_SECONDS = "world_size", "grace_seconds"
HELP, EXIT_USER_ERROR = "--help", 2


def main(arguments: Sequence[str]) -> int:
    """Check a command; return 0 and print what was looked at, or 2 and name what is wrong in one line."""
    if HELP in arguments:
        print(__doc__)
        return 0
    own = {key: value for key, _, value in (text.partition("=") for text in arguments) if key in OWN}
    overrides = [text for text in arguments if text.partition("=")[0] not in OWN]
    try:
        world_size, grace_seconds = read_world_size(own.get(WORLD_SIZE)), read_grace(own.get(GRACE_SECONDS))
        lines = check_command(overrides, world_size=world_size, grace_seconds=grace_seconds)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    print("\n".join(lines))
    return 0


def check_command(overrides: Sequence[str], *, world_size: int, grace_seconds: float | None) -> list[str]:
    """Return a line on each thing that was checked. Raises ValueError or OSError for the first that is wrong."""
    config = compose_run(overrides)
    ranks = PlannedRanks(world_size=world_size)
    checked = check(config, ranks, hash_checkpoint=False)
    run_dir, step, total = Path(config.run_dir), checked.state.step, total_steps(config.phases)
    streams = config.phases[0].data.num_streams
    lines = [
        f"ranks: {world_size} for {streams} streams; ZeRO stage {config.engine.zero_stage}, "
        f"{config.engine.precision.value}",
        *checked.notes,
        *describe_shards(checked, ranks),
        describe_run(checked, run_dir, total),
        require_room(
            run_dir,
            config.checkpoint,
            elements=count_parameters(checked.plan.model, with_pairs=checked.plan.with_pairs)
            + projection_elements(checked.plan.model, checked.teacher),
            world_size=world_size,
            existing=len(list_tags(run_dir / "checkpoints")),
            step=step,
            total_steps=total,
        ),
        f"W&B: {config.tracking.wandb.value}" + (", a key is set" if config.tracking.wandb is WandbMode.online else ""),
    ]
    if grace_seconds is not None:
        lines.append(require_grace(grace_seconds, run_dir, world_size=world_size, num_streams=streams))
    return lines


def read_world_size(text: str | None) -> int:
    """Return the number of ranks to come. Raises ValueError when it is none."""
    meaning = "the number of ranks that are to start, nodes × GPUs of a node"
    if text is None:
        raise ValueError(f"{WORLD_SIZE} is missing: give {WORLD_SIZE}=N, {meaning}")
    require(text.isdecimal() and int(text) >= 1, WORLD_SIZE, text, f"{meaning}, at least 1")
    return int(text)


def read_grace(text: str | None) -> float | None:
    """Return the seconds between signal and kill, or None when they are not given. Raises ValueError for a bad one."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    require(0 < seconds < math.inf, GRACE_SECONDS, text, "the seconds between the signal to leave and the kill")
    return seconds


def describe_shards(checked: Checked, ranks: PlannedRanks) -> list[str]:
    """Return a line per phase on which of its shards were looked at."""
    lines = []
    for directory, manifest in zip(checked.shards, checked.manifests, strict=True):
        listed = all_shards(manifest)
        looked = "sizes are not looked at behind a pipe"
        if not directory.url.startswith(PIPE):
            looked = f"{len(ranks.share(listed)):,} of them looked at, with the manifest's sizes"
        lines.append(f"shards: {len(listed):,} in {directory.url}, {looked}")
    return lines


def describe_run(checked: Checked, run_dir: Path, total: int) -> str:
    """Return where the run stands."""
    if checked.checkpoint is None:
        return f"run_dir: {run_dir} can be written; a run from scratch"
    step = checked.state.step
    ahead = f"goes on from step {step:,} of {total:,}" if step < total else f"is done, at step {step:,}"
    return f"run_dir: {run_dir} can be written; its run {ahead}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
