"""Attention inside each instance of a flat batch: variable-length flash on CUDA, padded groups elsewhere."""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.model.kernels import dropout

SHORTEST_IN_GROUP = 0.875
"""An instance joins a group when it is at least this long, relative to the group's longest.

0.875 pads at most 1/7, 0 to 5 % in the mixes of `benchmarks/attention_groups.py`, whose table has the times of other
values, and needs no more than 26 groups between 16 and 512 tokens, where equal lengths may need one per instance: on a
GPU each group is several kernel launches.
"""


class LengthGroup(NamedTuple):
    """Instances attended together, each padded to `length` slots."""

    instances: int
    length: int
    real: Tensor | None  # bool [instances, 1, 1, length]: false at padding; None when nothing is padded


class GroupedPlan(NamedTuple):
    """How the tokens of a micro-batch stand in the slots of its groups, laid end to end."""

    groups: tuple[LengthGroup, ...]
    slot_tokens: Tensor | None  # int64 [slots]: the token in each slot; padding repeats its instance's first token
    token_slots: Tensor | None  # int64 [tokens]: the slot of each token. Both None when they are one and the same


class FlashPlan(NamedTuple):
    """What variable-length flash attention asks for; it pads nothing."""

    cu_seqlens: Tensor  # int32 [instances + 1]
    longest: int


AttentionPlan = GroupedPlan | FlashPlan


def plan_attention(lengths: Sequence[int], cu_seqlens: Tensor, dtype: torch.dtype) -> AttentionPlan:
    """Return the plan for instances of these lengths: made once per micro-batch, used by every layer.

    `cu_seqlens`, int32 [instances + 1], says by its device and `dtype` (of the activations) whether flash can run.
    """
    if cu_seqlens.is_cuda and dtype in (torch.bfloat16, torch.float16) and has_flash_attention():
        return FlashPlan(cu_seqlens, max(lengths))
    return plan_groups(lengths, cu_seqlens.device)


@cache
def has_flash_attention() -> bool:
    """Return whether the flash-attn package is installed."""
    return find_spec("flash_attn") is not None


def group_by_length(lengths: Sequence[int], shortest: float = SHORTEST_IN_GROUP) -> list[list[int]]:
    """Return the instances' numbers, longest first, in groups whose members have at least `shortest` of its longest."""
    groups: list[list[int]] = []
    for instance in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and lengths[instance] >= shortest * lengths[groups[-1][0]]:
            groups[-1].append(instance)
        else:
            groups.append([instance])
    return groups


def plan_groups(lengths: Sequence[int], device: torch.device, shortest: float = SHORTEST_IN_GROUP) -> GroupedPlan:
    """Return the plan of `group_by_length` with its index tensors on `device`."""
    sizes = np.asarray(lengths, dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    groups, tokens, reals = [], [], []
    for members in group_by_length(lengths, shortest):
        columns = np.arange(lengths[members[0]])
        real = columns < sizes[members, None]
        mask = None if real.all() else torch.from_numpy(real[:, None, None, :]).to(device)
        groups.append(LengthGroup(len(members), len(columns), mask))
        tokens.append((starts[members, None] + np.where(real, columns, 0)).ravel())
        reals.append(real.ravel())
    slot_tokens, real_slots = np.concatenate(tokens), np.flatnonzero(np.concatenate(reals))
    if np.array_equal(slot_tokens, np.arange(sizes.sum())):
        return GroupedPlan(tuple(groups), None, None)
    token_slots = np.empty(sizes.sum(), dtype=np.int64)
    token_slots[slot_tokens[real_slots]] = real_slots
    return GroupedPlan(
        tuple(groups), torch.from_numpy(slot_tokens).to(device), torch.from_numpy(token_slots).to(device)
    )


def attention(query: Tensor, key: Tensor, value: Tensor, plan: AttentionPlan, dropout_prob: float) -> Tensor:
    """Return softmax(QK^T / sqrt(head_size)) V of every instance, [tokens, heads, head_size] like the three inputs.

    `dropout_prob` applies to the attention probabilities; 0 when not training.
    """
    if isinstance(plan, FlashPlan):
        return _flash_attention(query, key, value, plan, dropout_prob)
    slot_tokens, token_slots = plan.slot_tokens, plan.token_slots
    if slot_tokens is not None and token_slots is not None:
        query, key, value = (to_slots(x, slot_tokens, token_slots) for x in (query, key, value))
    sizes = [group.instances * group.length for group in plan.groups]
    attended = [
        _attend(q, k, v, group, dropout_prob)
        for q, k, v, group in zip(query.split(sizes), key.split(sizes), value.split(sizes), plan.groups, strict=True)
    ]
    slots = torch.cat(attended) if len(attended) > 1 else attended[0]
    return slots if token_slots is None else to_tokens(slots, token_slots)


def _flash_attention(query: Tensor, key: Tensor, value: Tensor, plan: FlashPlan, dropout_prob: float) -> Tensor:
    from flash_attn import flash_attn_varlen_func  # importing it needs CUDA

    attended: Tensor = flash_attn_varlen_func(
        query,
        key,
        value,
        cu_seqlens_q=plan.cu_seqlens,
        cu_seqlens_k=plan.cu_seqlens,
        max_seqlen_q=plan.longest,
        max_seqlen_k=plan.longest,
        dropout_p=dropout_prob,
        deterministic=torch.are_deterministic_algorithms_enabled(),
    )
    return attended


def _attend(query: Tensor, key: Tensor, value: Tensor, group: LengthGroup, dropout_prob: float) -> Tensor:
    """Return [slots, heads, head_size] for one group's slots."""
    heads = (group.instances, group.length, *query.shape[1:])
    q, k, v = (x.view(heads).transpose(1, 2) for x in (query, key, value))
    if dropout_prob > 0 and not query.is_cuda:
        attended = _attend_with_cpu_dropout(q, k, v, group.real, dropout_prob)
    else:
        attended = F.scaled_dot_product_attention(q, k, v, group.real, dropout_prob)
    return attended.transpose(1, 2).flatten(0, 1)


def _attend_with_cpu_dropout(q: Tensor, k: Tensor, v: Tensor, real: Tensor | None, dropout_prob: float) -> Tensor:
    """Return what scaled_dot_product_attention would, with our `dropout`: on a CPU torch has no fused kernel either."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if real is not None:
        scores = scores.masked_fill(real.logical_not(), -torch.inf)
    return dropout(scores.softmax(-1), dropout_prob, True) @ v


def to_slots(tokens: Tensor, slot_tokens: Tensor, token_slots: Tensor) -> Tensor:
    """Return rows [slots, ...] for rows [tokens, ...]: those that a `GroupedPlan` puts in each slot."""
    slots: Tensor = _ToSlots.apply(tokens, slot_tokens, token_slots)  # type: ignore[no-untyped-call]
    return slots


def to_tokens(slots: Tensor, token_slots: Tensor) -> Tensor:
    """Return rows [tokens, ...] for rows [slots, ...]."""
    tokens: Tensor = _ToTokens.apply(slots, token_slots)  # type: ignore[no-untyped-call]
    return tokens


class _ToSlots(torch.autograd.Function):
    """Tokens to slots. Padding gets no gradient (as key it is masked, as query never read), so backward is a gather.

    The backward of index_select adds rows up instead: atomically on CUDA, in an order that changes from run to run.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, slot_tokens: Tensor, token_slots: Tensor) -> Tensor:
        ctx.save_for_backward(token_slots)
        return tokens.index_select(0, slot_tokens)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (token_slots,) = ctx.saved_tensors
        return grads[0].index_select(0, token_slots), None, None


class _ToTokens(torch.autograd.Function):
    """Slots back to tokens; backward puts zeros in the padding."""

    @staticmethod
    def forward(ctx: Any, slots: Tensor, token_slots: Tensor) -> Tensor:
        ctx.save_for_backward(token_slots)
        ctx.num_slots = len(slots)
        return slots.index_select(0, token_slots)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (token_slots,) = ctx.saved_tensors
        (grad,) = grads
        return grad.new_zeros(ctx.num_slots, *grad.shape[1:]).index_copy_(0, token_slots, grad), None
