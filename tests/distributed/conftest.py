"""One group of workers per world size, shared by all tests of this folder and gone after them; shards to read."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.distributed.workers import WorkerGroup
from tests.shards import write_shards


@pytest.fixture(scope="package")
def worker_group() -> Iterator[Callable[[int], WorkerGroup]]:
    groups: dict[int, WorkerGroup] = {}

    def get(world_size: int) -> WorkerGroup:
        return groups.setdefault(world_size, WorkerGroup(world_size))

    yield get
    for group in groups.values():
        group.close()


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")
