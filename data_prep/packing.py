"""Instance lengths -> sequences: which instances share one, so that few tokens of a sequence stay unused."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.config import Packing
from data_prep.shard_format import IntArray, ragged_indices


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """Which instances each sequence holds."""

    instances: NDArray[np.int64]  # [instances]: their numbers, sequence by sequence
    num_instances: NDArray[np.int64]  # [sequences]

    def __len__(self) -> int:
        return len(self.num_instances)

    def take(self, rows: IntArray) -> "Sequences":
        """Return the given sequences, int [rows], in that order."""
        return Sequences(
            instances=self.instances[ragged_indices(self.num_instances, rows)], num_instances=self.num_instances[rows]
        )


def pack_sequences(lengths: IntArray, capacity: int, packing: Packing) -> Sequences:
    """Return sequences of at most `capacity` tokens that hold every instance once; `lengths` is int [instances]."""
    if packing is Packing.best_fit:
        return pack_best_fit(lengths, capacity)
    every = np.arange(len(lengths), dtype=np.int64)
    return Sequences(instances=every, num_instances=np.ones_like(every))


def pack_best_fit(lengths: IntArray, capacity: int) -> Sequences:
    """Return the sequences of best-fit decreasing: from the longest instance on, each joins the fullest it fits in.

    It needs at most 11/9 of the fewest possible sequences and four more (Johnson et al. 1974). The bits of an integer
    say which amounts of room there are, so that an instance costs a few operations whatever their number.
    """
    assert not len(lengths) or int(lengths.max()) <= capacity, "an instance longer than a sequence"
    sequences: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = 0  # bit r: some sequence has room for exactly r tokens
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    for instance, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            sequence = with_room[room].pop()
            rooms ^= (not with_room[room]) << room
            sequences[sequence].append(instance)
        else:
            room = capacity
            sequence = len(sequences)
            sequences.append([instance])
        with_room[room - length].append(sequence)
        rooms |= 1 << (room - length)
    return Sequences(
        instances=np.array([instance for sequence in sequences for instance in sequence], dtype=np.int64),
        num_instances=np.array([len(sequence) for sequence in sequences], dtype=np.int64),
    )
