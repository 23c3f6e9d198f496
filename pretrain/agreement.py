"""What all ranks must have in common before anything else: code, libraries, arguments and, roughly, the time of day."""

import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from conf.compose import differing, fingerprint, flatten, to_dict
from pretrain.config import PretrainConfig
from pretrain.distributed import LostRanksError, Ranks, start_ranks
from pretrain.init_from import compose_run

PACKAGES = ("conf", "data_prep", "pretrain")
LIBRARIES = ("deepspeed", "torch")
SOURCES = (".py", ".yaml")
PATIENCE_SECONDS = 30  # of a rank whose arguments are wrong: the others may have said so, and left
CLOCK_TOLERANCE_SECONDS = 5.0
MOST_NAMED = 5
ROOT = Path(__file__).resolve().parents[1]


class Readings(NamedTuple):
    """What a host's clock says just before and just after a moment that all ranks share; seconds since 1970."""

    host: str
    before: float
    after: float


def start_together(arguments: Sequence[str]) -> tuple[PretrainConfig, Ranks]:
    """Compose this rank's config and join the other ranks.

    Other code on some rank, or a mistake in the arguments of any, is raised on all: ValueError on the lowest such rank,
    FailureElsewhereError on the others. Raises LostRanksError when the others do not come.
    """
    config, patience = _compose(arguments), PATIENCE_SECONDS
    if isinstance(config, PretrainConfig):
        patience = config.engine.collective_timeout_seconds

    def agree(ranks: Ranks) -> None:
        require_same_code(ranks)  # first: another release may know other arguments
        ranks.together(partial(_require_composed, config))

    try:
        ranks = start_ranks(patience, agree)
    except LostRanksError:
        _require_composed(config)
        raise
    return _require_composed(config), ranks


def _compose(arguments: Sequence[str]) -> PretrainConfig | ValueError | OSError:
    try:
        return compose_run(arguments)
    except (ValueError, OSError) as error:
        return error


def _require_composed(config: PretrainConfig | ValueError | OSError) -> PretrainConfig:
    if isinstance(config, (ValueError, OSError)):
        raise config
    return config


def require_same_code(ranks: Ranks, root: Path = ROOT) -> None:
    """Raise ValueError unless all ranks run the sources and libraries of rank 0. All ranks call it together."""
    _require_same(ranks.together(partial(own_code, root)), ranks, describe_code)


def require_agreement(config: PretrainConfig, ranks: Ranks) -> None:
    """Raise ValueError unless all ranks have the config of rank 0 and about its time. All ranks call it together."""
    _require_same(flatten(to_dict(config)), ranks, describe_config)
    ranks.together(lambda: None)  # all are here: what comes next lasts no longer than a message
    before = time.time()
    ranks.together(lambda: None)  # the shared moment: the first to leave comes after the last to enter
    readings = ranks.gather(Readings(socket.gethostname(), before, time.time()))
    ranks.broadcast(lambda: require_clocks(readings))


def own_code(root: Path) -> dict[str, str]:
    """Return the sha256 of each source file of our packages, which lie in `root`, and the versions of libraries."""
    named = [path for package in PACKAGES for path in (root / package).rglob("[!.]*") if path.suffix in SOURCES]
    files = {path.relative_to(root).as_posix(): sha256(path.read_bytes()).hexdigest() for path in named}
    return files | {library: version(library) for library in LIBRARIES}


def _require_same(own: dict[str, Any], ranks: Ranks, describe: Callable[[dict[str, Any], dict[str, Any]], str]) -> None:
    """Raise ValueError unless `own` is the same on all ranks. While it is, one number of each travels, and no more."""
    if ranks.all_give(int(fingerprint(own)[:15], 16)):
        return
    first = ranks.broadcast(lambda: own)
    is_odd = fingerprint(own) != fingerprint(first)
    odd = int(ranks.sum(torch.tensor(int(is_odd))))
    others = f" (and {odd - 1} more ranks)" if odd > 1 else ""

    def refuse() -> None:
        if is_odd:
            raise ValueError(f"rank {ranks.rank} on {socket.gethostname()}{others} {describe(own, first)}")

    ranks.together(refuse)


def describe_config(own: dict[str, Any], first: dict[str, Any]) -> str:
    """Return every key that a rank's flat config has otherwise than rank 0's, and the remedy."""
    values = [f"{key}={own.get(key)!r}, there {first.get(key)!r}" for key in differing(own, first)]
    return f"was started with another config than rank 0: {'; '.join(values)}: give all ranks the same arguments"


def describe_code(own: dict[str, str], first: dict[str, str]) -> str:
    """Return which libraries and source files (the first few) a rank has otherwise than rank 0, and the remedy."""
    names = differing(own, first)
    files = [name for name in names if name not in LIBRARIES]
    named = [f"{name} {own.get(name)}, there {first.get(name)}" for name in names if name in LIBRARIES]
    named += files[:MOST_NAMED] + ([f"{len(files) - MOST_NAMED} more files"] if len(files) > MOST_NAMED else [])
    return f"runs other code than rank 0: {'; '.join(named)}: install the same release on every node"


def require_clocks(readings: Sequence[Readings]) -> None:
    """Raise ValueError when the clock farthest from rank 0's is off by more than `CLOCK_TOLERANCE_SECONDS`."""
    leads = [_lead(own, readings[0]) for own in readings]
    rank = max(range(len(leads)), key=lambda rank: abs(leads[rank]))
    if abs(leads[rank]) > CLOCK_TOLERANCE_SECONDS:
        raise ValueError(
            f"the clock of {readings[rank].host} (rank {rank}) is {abs(leads[rank]):,.0f} s "
            f"{'ahead of' if leads[rank] > 0 else 'behind'} that of {readings[0].host} (rank 0): set it right (NTP); "
            "torchrun takes a host that is seconds off for dead, and a run's files hold times of many hosts"
        )


def _lead(own: Readings, first: Readings) -> float:
    """Return by how many seconds a clock is ahead of the first (below 0: behind), beyond what waiting can explain.

    Each clock passed the shared moment between its two readings. Ranges that overlap prove nothing.
    """
    return max(0.0, own.before - first.after) - max(0.0, first.before - own.after)
