"""Which of several processes this one is, by what torchrun told it."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rank:
    """One process of `world_size`; alone it is the first of one."""

    rank: int
    local_rank: int  # on its host
    world_size: int

    @property
    def is_first(self) -> bool:
        """Whether this process writes and prints for all."""
        return self.rank == 0


def this_rank() -> Rank:
    """Return what the environment says; torchrun sets all three of its variables."""
    rank, local_rank, world_size = (
        int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("LOCAL_RANK", 0), ("WORLD_SIZE", 1))
    )
    return Rank(rank, local_rank, world_size)
