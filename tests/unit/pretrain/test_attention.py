import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pretrain.model.attention import (
    SHORTEST_IN_GROUP,
    FlashPlan,
    attention,
    group_by_length,
    has_flash_attention,
    plan_attention,
    plan_groups,
)

lengths_of_instances = st.lists(st.integers(1, 40), min_size=1, max_size=12)
CPU = torch.device("cpu")


def random_qkv(tokens: int, heads: int = 2, head_size: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    return [torch.randn(tokens, heads, head_size, generator=generator).requires_grad_() for _ in range(3)]


def attention_by_loop(query: Tensor, key: Tensor, value: Tensor, lengths: list[int]) -> Tensor:
    rows = []
    for q, k, v in zip(query.split(lengths), key.split(lengths), value.split(lengths), strict=True):
        for head in range(q.shape[1]):
            scores = q[:, head] @ k[:, head].T / q.shape[-1] ** 0.5
            rows.append(scores.exp() / scores.exp().sum(1, keepdim=True) @ v[:, head])
    heads = query.shape[1]
    return torch.cat([torch.stack(rows[i : i + heads], 1) for i in range(0, len(rows), heads)])


@settings(max_examples=60)
@given(lengths_of_instances)
def test_attention_and_its_gradient_are_those_of_each_instance_alone(lengths: list[int]) -> None:
    qkv = random_qkv(sum(lengths))
    attended = attention(*qkv, plan_groups(lengths, CPU), 0.0)
    expected = attention_by_loop(*qkv, lengths)
    torch.testing.assert_close(attended, expected, atol=2e-6, rtol=1e-5)
    weights = torch.randn_like(expected)
    ours = torch.autograd.grad((attended * weights).sum(), qkv)
    theirs = torch.autograd.grad((expected * weights).sum(), qkv)
    torch.testing.assert_close(ours, theirs, atol=5e-6, rtol=1e-4)


@settings(max_examples=60)
@given(lengths_of_instances)
def test_groups_hold_every_instance_once_and_pad_little(lengths: list[int]) -> None:
    groups = group_by_length(lengths)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        members = [lengths[i] for i in group]
        assert members[0] == max(members)
        assert min(members) >= SHORTEST_IN_GROUP * members[0]


@settings(max_examples=60)
@given(lengths_of_instances)
def test_every_token_has_one_slot_and_padding_is_masked(lengths: list[int]) -> None:
    plan = plan_groups(lengths, CPU)
    if plan.slot_tokens is None:
        assert all(group.real is None for group in plan.groups)
        return
    assert torch.equal(plan.slot_tokens[plan.token_slots], torch.arange(sum(lengths)))
    real = [
        torch.ones(g.instances, g.length, dtype=torch.bool) if g.real is None else g.real[:, 0, 0] for g in plan.groups
    ]
    assert torch.equal(torch.cat([r.ravel() for r in real]).nonzero()[:, 0], plan.token_slots.sort().values)


def test_instances_of_one_length_are_not_moved() -> None:
    plan = plan_groups([7] * 5, CPU)
    assert plan.slot_tokens is None
    assert [(group.instances, group.length, group.real) for group in plan.groups] == [(5, 7, None)]


def test_dropout_of_probabilities_keeps_the_mean_and_skips_padding() -> None:
    lengths = [30, 27, 12, 30] * 30
    query, key, value = random_qkv(sum(lengths))
    torch.manual_seed(1)
    sums = attention(query, key, torch.ones_like(value), plan_groups(lengths, CPU), 0.2).detach()
    assert sums.std() > 0.05
    assert sums.mean().item() == pytest.approx(1, abs=0.005)


def test_dropout_falls_on_every_instance_and_head_by_itself() -> None:
    query, key, value = (torch.ones(6 * 20, 2, 4) for _ in range(3))
    torch.manual_seed(1)
    sums = attention(query, key, value, plan_groups([20] * 6, CPU), 0.5)[..., 0].view(6, 20, 2)
    assert len({tuple(sums[i, :, head].tolist()) for i in range(6) for head in range(2)}) == 12


def test_same_seed_gives_the_same_bits_forward_and_backward() -> None:
    lengths = [40, 12, 33, 38, 5, 40]

    def run() -> tuple[Tensor, ...]:
        qkv = random_qkv(sum(lengths))
        torch.manual_seed(5)
        attended = attention(*qkv, plan_groups(lengths, CPU), 0.1)
        return (attended, *torch.autograd.grad(attended.square().sum(), qkv))

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


def test_a_cpu_batch_is_grouped() -> None:
    plan = plan_attention([3, 2], torch.tensor([0, 3, 5], dtype=torch.int32), torch.bfloat16)
    assert not isinstance(plan, FlashPlan)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_flash_attention_equals_grouped_attention(dtype: torch.dtype) -> None:
    if not has_flash_attention():
        pytest.skip("flash-attn is not installed")
    lengths = [128, 77, 128, 5]
    cu_seqlens = torch.tensor([0, 128, 205, 333, 338], dtype=torch.int32, device="cuda")
    qkv = [torch.randn(338, 4, 64, device="cuda", dtype=dtype, requires_grad=True) for _ in range(3)]
    plan = plan_attention(lengths, cu_seqlens, dtype)
    assert isinstance(plan, FlashPlan)
    flash = attention(*qkv, plan, 0.0)
    grouped = attention(*qkv, plan_groups(lengths, cu_seqlens.device), 0.0)
    torch.testing.assert_close(flash, grouped, atol=1e-2, rtol=1e-2)
    for ours, theirs in zip(
        torch.autograd.grad(flash.sum(), qkv), torch.autograd.grad(grouped.sum(), qkv), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-2)
