"""What a save writes, as it was at one moment: copies in CPU memory, so that the next step may change the tensors."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pretrain.checkpoint.fragments_file import MOMENTS, StoredFragment
from pretrain.distributed import Ranks
from pretrain.engine import Engine
from pretrain.optim.fragments import Fragment, Layout
from pretrain.phases import RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of a run and this rank's share of weights and optimizer state."""

    state: RunState
    loss_scaler: dict[str, float]
    shapes: dict[str, list[int]]  # of every parameter of the model
    fragments: list[StoredFragment]
    tensors: dict[str, Tensor]  # flat fp32 on the CPU, by their names in the rank's file


class Staging:
    """The CPU memory that snapshots are copied to, 12 bytes an element of this rank's share.

    It is kept from save to save: memory that is new, or has to be pinned, makes a copy several times slower. So a
    snapshot is good until the next one is taken.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def take(self, engine: Engine, state: RunState, ranks: Ranks) -> Snapshot:
        """Return a snapshot of this rank. Nothing is written and no rank waits for another."""
        tensors: dict[str, Tensor] = {}
        stored = []
        for fragment in fragments_to_save(engine.layout, rank=ranks.rank, world_size=ranks.world_size):
            moments = engine.optimizer.state[fragment.flat]
            updates = int(moments["step"]) if moments else 0
            sources = {"fp32": fragment.flat, **{kind: moments[kind] for kind in MOMENTS if updates}}
            for kind, tensor in sources.items():
                name = f"{fragment.name}/{kind}"
                assert name not in tensors, f"two fragments of {name} on one rank"
                tensors[name] = self._copy(name, fragment.cut(tensor.detach()))
            stored.append(
                StoredFragment(name=fragment.name, start=fragment.start, numel=fragment.numel, updates=updates)
            )
        if ranks.device.type == "cuda":
            torch.cuda.current_stream().synchronize()
        return Snapshot(
            state=state,
            loss_scaler=engine.loss_scaler_state(),
            shapes={name: list(shape) for name, shape in engine.layout.shapes.items()},
            fragments=stored,
            tensors=tensors,
        )

    def _copy(self, name: str, source: Tensor) -> Tensor:
        if name not in self._buffers:
            self._buffers[name] = torch.empty(source.numel(), dtype=torch.float32, pin_memory=source.is_cuda)
        return self._buffers[name].copy_(source, non_blocking=True)


def fragments_to_save(layout: Layout, *, rank: int, world_size: int) -> list[Fragment]:
    """Return this rank's share: its own fragments, or every world_size-th parameter where all ranks hold them all."""
    if layout.sharded:
        return list(layout.fragments)
    return [fragment for fragment in layout.fragments if fragment.index % world_size == rank]
