from itertools import accumulate, pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_prep.config import Packing
from data_prep.packing import Sequences, pack_best_fit, pack_sequences

CAPACITY = 64
LENGTHS = st.lists(st.integers(1, CAPACITY), max_size=60)


def members(sequences: Sequences) -> list[list[int]]:
    stops = list(accumulate(sequences.num_instances.tolist(), initial=0))
    return [sequences.instances[start:stop].tolist() for start, stop in pairwise(stops)]


def best_fit_by_search(lengths: list[int], capacity: int) -> list[int]:
    """Return the rooms that best-fit decreasing leaves, by looking at every sequence for every instance."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms.remove(min(fitting))
        rooms.append((min(fitting) if fitting else capacity) - length)
    return sorted(rooms)


@given(LENGTHS)
def test_every_instance_is_in_one_sequence_and_each_joined_the_fullest_it_fitted_in(lengths: list[int]) -> None:
    sequences = pack_best_fit(np.array(lengths, dtype=np.int64), CAPACITY)
    packed = members(sequences)
    assert sorted(instance for sequence in packed for instance in sequence) == list(range(len(lengths)))
    rooms = [CAPACITY - sum(lengths[instance] for instance in sequence) for sequence in packed]
    assert sorted(rooms) == best_fit_by_search(lengths, CAPACITY)


@given(LENGTHS)
def test_without_packing_sequence_i_is_instance_i(lengths: list[int]) -> None:
    sequences = pack_sequences(np.array(lengths, dtype=np.int64), CAPACITY, Packing.none)
    assert members(sequences) == [[instance] for instance in range(len(lengths))]


@given(LENGTHS, st.randoms())
def test_sequences_are_taken_whole_and_in_order(lengths: list[int], random: object) -> None:
    sequences = pack_sequences(np.array(lengths, dtype=np.int64), CAPACITY, Packing.best_fit)
    rows = list(range(len(sequences)))
    random.shuffle(rows)  # type: ignore[attr-defined]
    taken = sequences.take(np.array(rows, dtype=np.int64))
    assert members(taken) == [members(sequences)[row] for row in rows]
