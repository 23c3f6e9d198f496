"""What all ranks must have in common before anything else: arguments, code, libraries and, roughly, the time of day."""

import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from conf.compose import compose, fingerprint, flatten, to_dict
from pretrain.config import PretrainConfig
from pretrain.distributed import LostRanksError, Ranks, start_ranks

PACKAGES = ("conf", "data_prep", "pretrain")
LIBRARIES = ("deepspeed", "torch")
SOURCES = (".py", ".yaml")
PATIENCE_SECONDS = 30  # of a rank whose arguments are wrong: the others may have said so, and left
CLOCK_TOLERANCE_SECONDS = 5.0
MOST_NAMED = 5
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What decides what a rank computes: its code, {file: sha256} and {library: version}, and its config, flat."""

    files: dict[str, str]
    libraries: dict[str, str]
    config: dict[str, Any]


class Account(NamedTuple):
    """What a rank says of itself."""

    host: str
    basis: str  # fingerprint
    clock: float  # seconds since 1970


def start_together(arguments: Sequence[str]) -> tuple[PretrainConfig, Ranks]:
    """Compose this rank's config and join the other ranks.

    A mistake in the arguments of any rank is raised on all: ValueError on the lowest such rank, FailureElsewhereError
    on the others. Raises LostRanksError when the others do not come.
    """
    config, patience = _compose(arguments), PATIENCE_SECONDS
    if isinstance(config, PretrainConfig):
        patience = config.engine.collective_timeout_seconds
    try:
        ranks = start_ranks(patience)
    except LostRanksError:
        _require_composed(config)
        raise
    return ranks.together(partial(_require_composed, config)), ranks


def _compose(arguments: Sequence[str]) -> PretrainConfig | ValueError:
    try:
        return compose("pretrain", PretrainConfig, arguments)
    except ValueError as error:
        return error


def _require_composed(config: PretrainConfig | ValueError) -> PretrainConfig:
    if isinstance(config, ValueError):
        raise config
    return config


def own_basis(config: PretrainConfig, root: Path = ROOT) -> Basis:
    """Return the basis of this process, whose packages lie in `root`."""
    named = [path for package in PACKAGES for path in (root / package).rglob("[!.]*") if path.suffix in SOURCES]
    return Basis(
        files={str(path.relative_to(root)): sha256(path.read_bytes()).hexdigest() for path in sorted(named)},
        libraries={library: version(library) for library in LIBRARIES},
        config=flatten(to_dict(config)),
    )


def require_agreement(own: Basis, ranks: Ranks) -> None:
    """Raise ValueError unless all ranks have the basis of rank 0, naming what differs; warn of clocks that differ.

    One small message a rank; only when two differ do the lists themselves travel. All ranks call it together.
    """
    ranks.together(lambda: None)  # a barrier: all look at their clocks at the same moment
    accounts = ranks.gather(Account(socket.gethostname(), fingerprint(asdict(own)), time.time()))
    if ranks.is_first and (warning := describe_clocks(accounts)):
        print(f"warning: {warning}", file=sys.stderr)
    first, odd = ranks.broadcast(lambda: _reference(accounts, own))
    ranks.together(lambda: _require_same(own, first, odd, ranks.rank))


def _reference(accounts: Sequence[Account], own: Basis) -> tuple[Basis | None, list[int]]:
    """Return the ranks that differ from rank 0, and what they differ from if there are any."""
    odd = [rank for rank, account in enumerate(accounts) if account.basis != accounts[0].basis]
    return (own if odd else None), odd


def _require_same(own: Basis, first: Basis | None, odd: Sequence[int], rank: int) -> None:
    if first is None or rank not in odd:
        return
    others = f" (and {len(odd) - 1} more ranks)" if len(odd) > 1 else ""
    raise ValueError(f"rank {rank} on {socket.gethostname()}{others} {describe_difference(own, first)}")


def describe_difference(own: Basis, first: Basis) -> str:
    """Return what a rank has otherwise than rank 0, and the remedy: every config key, the first few source files."""
    said, remedies = [], []
    if keys := _differing(own.config, first.config):
        values = [f"{key}={own.config.get(key)!r}, there {first.config.get(key)!r}" for key in keys]
        said.append(f"was started with another config than rank 0: {'; '.join(values)}")
        remedies.append("give all ranks the same arguments")
    files, libraries = _differing(own.files, first.files), _differing(own.libraries, first.libraries)
    if files or libraries:
        named = [f"{name} {own.libraries.get(name)}, there {first.libraries.get(name)}" for name in libraries]
        named += files[:MOST_NAMED] + ([f"{len(files) - MOST_NAMED} more files"] if len(files) > MOST_NAMED else [])
        said.append(f"runs other code than rank 0: {'; '.join(named)}")
        remedies.append("install the same release on every node")
    return f"{' and '.join(said)}: {' and '.join(remedies)}"


def _differing(own: dict[str, Any], first: dict[str, Any]) -> list[str]:
    missing = object()
    return [key for key in sorted(own | first) if own.get(key, missing) != first.get(key, missing)]


def describe_clocks(accounts: Sequence[Account]) -> str | None:
    """Return a line on the clock farthest from that of rank 0; None when all are within `CLOCK_TOLERANCE_SECONDS`.

    Nothing that is computed, and no limit of time, compares the clocks of two hosts.
    """
    first = accounts[0]
    rank, farthest = max(enumerate(accounts), key=lambda item: abs(item[1].clock - first.clock))
    ahead = farthest.clock - first.clock
    if abs(ahead) <= CLOCK_TOLERANCE_SECONDS:
        return None
    return (
        f"the clock of {farthest.host} (rank {rank}) is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} "
        f"that of {first.host} (rank 0): times in their logs cannot be compared; synchronise them (NTP)"
    )
