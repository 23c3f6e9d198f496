"""Attention inside each instance of a flat batch: variable-length flash on CUDA, length-grouped elsewhere."""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.model.kernels import dropout

GROUP_SHRINK = 0.75
"""A group holds the instances at least this long, relative to its longest; see `group_by_length`."""


class LengthGroup(NamedTuple):
    """Instances attended together, each padded to `length` slots."""

    instances: int
    length: int
    real: Tensor | None  # bool [instances, 1, 1, length]: true at tokens, false at padding; None without padding


class GroupedPlan(NamedTuple):
    """How the tokens of a micro-batch are laid out for attention over padded groups."""

    groups: tuple[LengthGroup, ...]
    slot_tokens: Tensor | None  # int64 [slots]: the token in each slot; padding repeats the instance's first token
    token_slots: Tensor | None  # int64 [tokens]: the slot of each token; both None when slots are the tokens in order


class FlashPlan(NamedTuple):
    """What variable-length flash attention needs: it has no padding."""

    cu_seqlens: Tensor  # int32 [instances + 1]
    longest: int


AttentionPlan = GroupedPlan | FlashPlan


def plan_attention(lengths: Sequence[int], cu_seqlens: Tensor, dtype: torch.dtype) -> AttentionPlan:
    """Return the plan, made once per micro-batch and used by every layer, for instances of these lengths.

    `dtype` is that of the activations; `cu_seqlens` (int32 [instances + 1]) says which device.
    """
    if cu_seqlens.is_cuda and dtype in (torch.bfloat16, torch.float16) and flash_attention_is_installed():
        return FlashPlan(cu_seqlens, max(lengths))
    return _plan_groups(lengths, cu_seqlens.device)


@cache
def flash_attention_is_installed() -> bool:
    """Return whether the flash-attn package is there."""
    return find_spec("flash_attn") is not None


def group_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Return instance numbers in groups of similar length: each at least `GROUP_SHRINK` of its group's longest."""
    groups: list[list[int]] = []
    for instance in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and lengths[instance] >= GROUP_SHRINK * lengths[groups[-1][0]]:
            groups[-1].append(instance)
        else:
            groups.append([instance])
    return groups


def _plan_groups(lengths: Sequence[int], device: torch.device) -> GroupedPlan:
    sizes = np.asarray(lengths, dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    groups: list[LengthGroup] = []
    tokens: list[np.ndarray[Any, np.dtype[np.int64]]] = []
    reals: list[np.ndarray[Any, np.dtype[np.bool_]]] = []
    for members in group_by_length(lengths):
        longest = lengths[members[0]]
        column = np.arange(longest)
        real = column < sizes[members, None]
        mask = None if real.all() else torch.from_numpy(real[:, None, None, :]).to(device)
        groups.append(LengthGroup(len(members), longest, mask))
        tokens.append((starts[members, None] + np.where(real, column, 0)).ravel())
        reals.append(real.ravel())
    slot_tokens, real_slots = np.concatenate(tokens), np.flatnonzero(np.concatenate(reals))
    if np.array_equal(slot_tokens, np.arange(sizes.sum())):
        return GroupedPlan(tuple(groups), None, None)
    token_slots = np.empty(sizes.sum(), dtype=np.int64)
    token_slots[slot_tokens[real_slots]] = real_slots
    return GroupedPlan(tuple(groups), torch.from_numpy(slot_tokens).to(device), torch.from_numpy(token_slots).to(device))


class _ToSlots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slot_tokens: Tensor, token_slots: Tensor) -> Tensor:
        ctx.save_for_backward(token_slots)
        return x.index_select(0, slot_tokens)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (token_slots,) = ctx.saved_tensors
        return grad.index_select(0, token_slots), None, None


class _ToTokens(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, token_slots: Tensor) -> Tensor:
        ctx.save_for_backward(token_slots)
        ctx.num_slots = len(x)
        return x.index_select(0, token_slots)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (token_slots,) = ctx.saved_tensors
        return grad.new_zeros(ctx.num_slots, *grad.shape[1:]).index_copy_(0, token_slots, grad), None


def attention(qkv: Tensor, plan: AttentionPlan, dropout_prob: float) -> Tensor:
    """qkv [tokens, 3, heads, head_size] -> [tokens, heads, head_size]."""
    if isinstance(plan, FlashPlan):
        from flash_attn import flash_attn_varlen_qkvpacked_func

        return flash_attn_varlen_qkvpacked_func(qkv, plan.cu_seqlens, plan.longest, dropout_prob)
    if plan.slot_tokens is not None:
        qkv = _ToSlots.apply(qkv, plan.slot_tokens, plan.token_slots)
    parts = qkv.split([g.instances * g.length for g in plan.groups])
    outs = []
    for g, part in zip(plan.groups, parts):
        q, k, v = part.view(g.instances, g.length, *part.shape[1:]).permute(2, 0, 3, 1, 4)
        outs.append(_attend(q, k, v, g.real, dropout_prob).transpose(1, 2).flatten(0, 1))
    out = torch.cat(outs) if len(outs) > 1 else outs[0]
    return out if plan.token_slots is None else _ToTokens.apply(out, plan.token_slots)

MODE = "eager"
def _attend(q, k, v, real, p):
    if MODE == "sdpa" or p == 0:
        return F.scaled_dot_product_attention(q, k, v, real, p)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if real is not None:
        scores = scores.masked_fill(~real, float("-inf"))
    return dropout(scores.softmax(-1), p, True) @ v
