"""Whether the disk has room for the checkpoints that a run is going to keep."""

import math
import shutil
from pathlib import Path

from conf.checks import require
from pretrain.checkpoint.save import checkpoint_bytes
from pretrain.config import CheckpointConfig
from pretrain.shared_folder import nearest_folder


def require_room(
    run_dir: Path,
    config: CheckpointConfig,
    *,
    elements: int,
    world_size: int,
    existing: int,
    step: int,
    total_steps: int,
) -> str:
    """Return one line on the disk of a run that stands at `step` with `existing` checkpoints; quotas are not seen.

    Raises ValueError unless the checkpoints that are to lie there at a time fit: `keep_last`, and one being written.
    """
    folder, size = nearest_folder(run_dir), checkpoint_bytes(elements, world_size)
    free = shutil.disk_usage(folder).free
    kept = min(existing, config.keep_last)
    needed = min(config.keep_last + 1 - kept, saves_ahead(config.save_every, step=step, total_steps=total_steps))
    fitting = free // size + kept - 1
    require(
        needed * size <= free,
        "checkpoint.keep_last",
        config.keep_last,
        f"{needed:,} more checkpoints of up to {size / 1e9:,.3f} GB are to lie in {folder} at a time, one being "
        f"written, and {free / 1e9:,.3f} GB are free; "
        + (f"nearest: {fitting}, " if fitting >= 1 else "free some of it, ")
        + "or name another run_dir",
    )
    count = f"{needed:,} more checkpoint{'s' * (needed != 1)}"
    line = f"disk: {count} of up to {size / 1e9:,.3f} GB, {free / 1e9:,.3f} GB free"
    return line + _describe_marked(config, size=size, free=free - needed * size, step=step, total_steps=total_steps)


def saves_ahead(every: int, *, step: int, total_steps: int) -> int:
    """Return how many saves a run makes after `step`: at the multiples of `every`, and at its end."""
    return 0 if step >= total_steps else -(-total_steps // every) - step // every


def _describe_marked(config: CheckpointConfig, *, size: int, free: int, step: int, total_steps: int) -> str:
    if config.keep_every == 0:
        return ""
    apart = math.lcm(config.save_every, config.keep_every)
    room = (total_steps // apart - step // apart) * size
    warning = "WARNING: more than there is; " if room > free else ""
    return f"; {warning}checkpoint.keep_every={config.keep_every} keeps {room / 1e9:,.3f} GB more by the end"
