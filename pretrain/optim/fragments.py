"""Where each parameter lies in the flat fp32 tensors that DeepSpeed hands to an optimizer, for every engine class.

LAMB needs it for its norms and checkpoints need it to be independent of the layout: one table serves both.
Attribute names are those of DeepSpeed 0.19.8, seen in a run of each class; a class not listed here is refused.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

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
    """All fragments of this rank. `sharded`: the ranks hold different ones; else each holds every parameter whole.

    `refresh` copies the fp32 tensors into the weights that the forward pass uses; all ranks call it together.
    """

    fragments: tuple[Fragment, ...]
    flats: tuple[Tensor, ...]  # every tensor that the optimizer steps on, also one that holds nothing but padding
    shapes: dict[str, torch.Size]  # of every parameter, in the module's order
    sharded: bool
    refresh: Callable[[], None]


class _Names:
    """Turns parameters into fragments: knows the name and the index of each."""

    def __init__(self, module: nn.Module) -> None:
        named = enumerate(module.named_parameters())
        self._known = {id(parameter): (index, name) for index, (name, parameter) in named}

    def fragment(self, parameter: nn.Parameter, *, start: int, numel: int, flat: Tensor, offset: int) -> Fragment:
        index, name = self._known[id(parameter)]
        return Fragment(name=name, index=index, start=start, numel=numel, flat=flat, offset=offset)


def find_layout(module: nn.Module, engine_optimizer: Any) -> Layout:
    """Return the layout behind `engine.optimizer`. Raises RuntimeError for a class or a cut it does not understand."""
    found = _find(engine_optimizer)
    if found is None:
        raise RuntimeError(
            f"DeepSpeed chose {type(engine_optimizer).__name__}, whose layout is unknown here: "
            "LAMB would be wrong and checkpoints incomplete; use another engine.zero_stage or engine.precision"
        )
    # Under ZeRO-3 a parameter's own shape is that of an empty stand-in.
    shapes = {name: getattr(parameter, "ds_shape", parameter.shape) for name, parameter in module.named_parameters()}
    layout = Layout(
        fragments=tuple(found.list_fragments(_Names(module))),
        flats=tuple(found.flats),
        shapes=shapes,
        sharded=found.sharded,
        refresh=found.refresh,
    )
    _require_complete(layout)
    return layout


class _Found(NamedTuple):
    """What is known of an engine class."""

    flats: list[Tensor]
    list_fragments: Callable[[_Names], Iterator[Fragment]]
    sharded: bool
    refresh: Callable[[], None]


def _find(optimizer: Any) -> _Found | None:
    from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
    from deepspeed.runtime.fp16.unfused_optimizer import FP16_UnfusedOptimizer
    from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

    if isinstance(optimizer, DeepSpeedZeroOptimizer_Stage3):
        flats = optimizer.fp32_partitioned_groups_flat
        return _Found(flats, lambda names: _stage_3(names, optimizer), True, lambda: _refresh_stage_3(optimizer))
    if isinstance(optimizer, DeepSpeedZeroOptimizer):
        groups, flats = optimizer.bit16_groups, optimizer.single_partition_of_fp32_groups
        return _Found(flats, lambda names: _stages_1_and_2(names, groups, flats), True, optimizer.update_lp_params)
    if isinstance(optimizer, BF16_Optimizer):
        groups, flats = optimizer.bf16_groups, optimizer.fp32_groups_flat_partition
        return _Found(flats, lambda names: _stages_1_and_2(names, groups, flats), True, optimizer.update_lp_params)
    if isinstance(optimizer, FP16_UnfusedOptimizer):
        low, high = list(chain(*optimizer.fp16_groups)), list(chain(*optimizer.fp32_groups))
        return _Found(high, lambda names: _whole(names, low, high), False, lambda: _copy_all(high, low))
    if isinstance(optimizer, torch.optim.Optimizer):
        own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        return _Found(own, lambda names: _whole(names, own, own), False, lambda: None)
    return None


def _stages_1_and_2(names: _Names, groups: list[list[Any]], flats: list[Tensor]) -> Iterator[Fragment]:
    for parameters, flat in zip(groups, flats, strict=True):
        for parameter in parameters:
            mapping = parameter._hp_mapping  # None when no element of it is on this rank
            if mapping is not None:
                # Never recompute these by a running sum: parameter_alignment pads between parameters.
                address = mapping.get_hp_fragment_address()
                start = mapping.lp_fragment_address.start
                yield names.fragment(parameter, start=start, numel=address.numel, flat=flat, offset=address.start)


def _stage_3(names: _Names, optimizer: Any) -> Iterator[Fragment]:
    """Each rank has the rank-th of world_size equal parts of every parameter; the last ones are padded, or all pad."""
    rank = dist.get_rank()
    for parameters, flat in zip(optimizer.fp16_groups, optimizer.fp32_partitioned_groups_flat, strict=True):
        offset = 0
        for parameter in parameters:
            part = parameter.partition_numel()
            valid = max(0, min(part, parameter.ds_numel - rank * part))
            if valid:
                yield names.fragment(parameter, start=rank * part, numel=valid, flat=flat, offset=offset)
            offset += part


def _refresh_stage_3(optimizer: Any) -> None:
    optimizer.checkpoint_event_prologue()
    for sub_group in range(len(optimizer.fp16_groups)):
        optimizer._reassign_or_swap_out_partitioned_parameters(sub_group)
    optimizer.checkpoint_event_epilogue()


def _whole(names: _Names, parameters: list[nn.Parameter], tensors: list[Tensor]) -> Iterator[Fragment]:
    for parameter, tensor in zip(parameters, tensors, strict=True):
        yield names.fragment(parameter, start=0, numel=tensor.numel(), flat=tensor, offset=0)


@torch.no_grad()
def _copy_all(sources: list[Tensor], targets: list[nn.Parameter]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)


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
