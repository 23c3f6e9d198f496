"""Where each parameter lies in the flat fp32 tensors that DeepSpeed hands to an optimizer, for every engine class.

LAMB needs it for its norms and checkpoints need it to be independent of the layout: one table serves both.
Attribute names are those of DeepSpeed 0.19.8, seen in a run of each class; a class not listed here is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """A stretch of one parameter inside a flat fp32 tensor of this rank."""

    name: str
    index: int  # of the parameter, in the module's order; the same on all ranks
    start: int  # first element of the (flattened) parameter held here
    numel: int
    flat: Tensor  # what the optimizer steps on and keys its state by
    offset: int  # of the stretch in `flat`

    def cut(self, tensor: Tensor) -> Tensor:
        """Return the view of this stretch, fp32 [numel], of a tensor laid out like `flat`."""
        return tensor.view(-1).narrow(0, self.offset, self.numel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """All fragments of this rank. `sharded`: the ranks hold different ones; else each holds every parameter whole."""

    fragments: tuple[Fragment, ...]
    shapes: dict[str, torch.Size]  # of every parameter, in the module's order
    sharded: bool


def find_layout(module: nn.Module, engine_optimizer: Any) -> Layout:
    """Return the layout behind `engine.optimizer`. Raises RuntimeError for a class or a cut it does not understand."""
    from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

    parameters = dict(module.named_parameters())
    order = {id(parameter): (index, name) for index, (name, parameter) in enumerate(parameters.items())}
    if isinstance(engine_optimizer, DeepSpeedZeroOptimizer):
        groups = zip(engine_optimizer.bit16_groups, engine_optimizer.single_partition_of_fp32_groups, strict=True)
        fragments, sharded = tuple(_cut_fragments(order, groups)), True
    elif isinstance(engine_optimizer, BF16_Optimizer):
        groups = zip(engine_optimizer.bf16_groups, engine_optimizer.fp32_groups_flat_partition, strict=True)
        fragments, sharded = tuple(_cut_fragments(order, groups)), True
    elif isinstance(engine_optimizer, torch.optim.Optimizer):
        tensors = [tensor for group in engine_optimizer.param_groups for tensor in group["params"]]
        fragments, sharded = tuple(_whole_fragments(order, tensors)), False
    else:
        raise RuntimeError(
            f"DeepSpeed chose {type(engine_optimizer).__name__}, whose layout is unknown here: "
            "LAMB would be wrong and checkpoints incomplete; use another engine.zero_stage or engine.precision"
        )
    layout = Layout(
        fragments=fragments,
        shapes={name: parameter.shape for name, parameter in parameters.items()},
        sharded=sharded,
    )
    _require_complete(layout)
    return layout


def _cut_fragments(order: dict[int, tuple[int, str]], groups: Any) -> Iterator[Fragment]:
    for parameters, flat in groups:
        for parameter in parameters:
            mapping = parameter._hp_mapping  # None when no element of it is on this rank
            if mapping is not None:
                index, name = order[id(parameter)]
                # Never recompute these by a running sum: parameter_alignment pads between parameters.
                address = mapping.get_hp_fragment_address()
                yield Fragment(
                    name=name,
                    index=index,
                    start=mapping.lp_fragment_address.start,
                    numel=address.numel,
                    flat=flat,
                    offset=address.start,
                )


def _whole_fragments(order: dict[int, tuple[int, str]], tensors: list[Tensor]) -> Iterator[Fragment]:
    for tensor in tensors:
        index, name = order[id(tensor)]
        yield Fragment(name=name, index=index, start=0, numel=tensor.numel(), flat=tensor, offset=0)


def _require_complete(layout: Layout) -> None:
    """Raise RuntimeError unless the fragments of all ranks add up to every parameter exactly."""
    held = torch.zeros(len(layout.shapes), dtype=torch.int64)
    for fragment in layout.fragments:
        held[fragment.index] += fragment.numel
    if layout.sharded:
        dist.all_reduce(held)
    for (name, shape), numel in zip(layout.shapes.items(), held.tolist(), strict=True):
        if numel != shape.numel():
            raise RuntimeError(f"the ranks hold {numel} of the {shape.numel()} elements of {name}: refusing to train")
