"""One group of workers per world size, shared by all tests of this folder and gone after them."""

from collections.abc import Callable, Iterator

import pytest

from tests.distributed.workers import WorkerGroup


@pytest.fixture(scope="package")
def worker_group() -> Iterator[Callable[[int], WorkerGroup]]:
    groups: dict[int, WorkerGroup] = {}

    def get(world_size: int) -> WorkerGroup:
        return groups.setdefault(world_size, WorkerGroup(world_size))

    yield get
    for group in groups.values():
        group.close()
