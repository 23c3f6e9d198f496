import platform
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pretrain.config import Kernels
from pretrain.model import kernels
from pretrain.model.kernels import (
    LayerNorm,
    Linear,
    cpu_multiplies_bf16,
    dropout,
    embedding,
    layer_norm,
    multi_tensor_norms,
    torch_norms,
)


def relative_error(value: Tensor, expected: Tensor) -> float:
    value, expected = value.detach().float(), expected.detach().float()
    return float((value - expected).norm() / expected.norm())


def noisy_gradient(tokens: int, hidden: int) -> Tensor:
    """A small common part under noise: what a sum in bf16 loses."""
    return torch.randn(tokens, hidden, generator=torch.Generator().manual_seed(7)) * 0.01 + 0.003


def test_fp32_layers_are_torchs_own() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 32)
    ours, theirs = Linear(32, 8), torch.nn.Linear(32, 8)
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(LayerNorm(32, eps=1e-5)(x), torch.nn.LayerNorm(32, eps=1e-5)(x))


@pytest.mark.parametrize("native", [True, False])
def test_bf16_weights_meet_fp32_activations(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "cpu_multiplies_bf16", lambda: native)
    torch.manual_seed(0)
    layer, x = Linear(64, 32).bfloat16(), torch.randn(100, 64, requires_grad=True)
    out = layer(x)
    exact = F.linear(x, layer.weight.float(), layer.bias.float())
    assert out.dtype == torch.float32
    assert relative_error(out, exact) < (4e-3 if native else 1e-7)
    out.sum().backward()
    assert layer.weight.grad is not None
    assert x.grad is not None
    assert (layer.weight.grad.dtype, x.grad.dtype) == (torch.bfloat16, torch.float32)
    assert relative_error(layer.weight.grad, x.sum(0).expand(32, 64)) < 4e-3


def test_gradients_of_bf16_norms_and_embeddings_are_summed_in_fp32() -> None:
    grad = noisy_gradient(4096, 128)
    norm, x = LayerNorm(128).bfloat16(), torch.randn(4096, 128)
    norm(x).backward(grad)
    assert norm.bias.grad is not None
    assert relative_error(norm.bias.grad, grad.sum(0)) < 4e-3
    table = torch.randn(2, 128).bfloat16().requires_grad_()
    ids = torch.randint(2, (4096,))
    embedding(ids, table).backward(grad)
    assert table.grad is not None
    assert relative_error(table.grad, torch.stack([grad[ids == i].sum(0) for i in range(2)])) < 4e-3


@pytest.mark.skipif(platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(), reason="reads x86 flags")
def test_bf16_instructions_are_those_the_kernel_lists() -> None:
    flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    assert cpu_multiplies_bf16() == bool({"avx512_bf16", "amx_bf16"} & set(flags))


@settings(max_examples=25)
@given(probability=st.floats(0.01, 0.95), seed=st.integers(0, 2**31))
def test_dropout_zeroes_its_share_and_keeps_the_mean(probability: float, seed: int) -> None:
    torch.manual_seed(seed)
    out = dropout(torch.ones(200, 501), probability, True)
    count = out.numel()
    kept = (out != 0).sum().item()
    assert abs(kept / count - (1 - probability)) < 6 * (probability * (1 - probability) / count) ** 0.5 + 2**-16
    assert out.max().item() == pytest.approx(1 / (1 - probability), rel=2e-3)


def test_dropout_of_neighbours_is_independent() -> None:
    torch.manual_seed(3)
    kept = (dropout(torch.ones(1_000_001), 0.3, True) != 0).double()
    for distance in (1, 2, 3, 4, 8, 512):
        share = (kept[distance:] * kept[:-distance]).mean().item()
        assert share == pytest.approx(0.49, abs=0.003)


def test_dropout_follows_torchs_seed_and_moves_on() -> None:
    x = torch.ones(40, 3)
    torch.manual_seed(1)
    first, second = dropout(x, 0.5, True), dropout(x, 0.5, True)
    torch.manual_seed(1)
    assert torch.equal(dropout(x, 0.5, True), first)
    assert not torch.equal(first, second)


def test_dropout_passes_gradient_where_it_passed_values() -> None:
    x = torch.rand(100, 10, requires_grad=True)
    out = dropout(x, 0.4, True)
    out.sum().backward()
    torch.testing.assert_close(x.grad, (out != 0) / 0.6, rtol=1e-4, atol=0)


def test_activation_checkpointing_replays_dropout() -> None:
    x = torch.rand(100, 10, requires_grad=True)
    torch.manual_seed(2)
    out = checkpoint(lambda y: dropout(y, 0.4, True), x, use_reentrant=False)
    out.sum().backward()
    torch.testing.assert_close(x.grad, (out != 0) / 0.6, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("probability", "training"), [(0.0, True), (0.5, False)])
def test_dropout_off_returns_its_input(probability: float, training: bool) -> None:
    x = torch.randn(5, 3)
    assert torch.equal(dropout(x, probability, training), x)


def test_torch_and_auto_without_cuda_give_torchs_norm() -> None:
    assert isinstance(layer_norm(8, 1e-12, Kernels.torch), LayerNorm)
    if not torch.cuda.is_available():
        assert isinstance(layer_norm(8, 1e-12, Kernels.auto), LayerNorm)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "not installed"),
        ({"apex/__init__.py": "raise ImportError('a stranger')"}, "another project"),
        ({"apex/__init__.py": "", "apex/normalization/__init__.py": ""}, "without its CUDA extensions"),
        (
            {"apex/__init__.py": "", "apex/normalization/__init__.py": "", "fused_layer_norm_cuda.py": ""},
            "without its CUDA extensions",
        ),
    ],
)
def test_apex_that_cannot_be_used_is_refused_and_auto_does_without(
    files: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.delitem(sys.modules, "apex", raising=False)
    # An import path of nothing else, so that an apex of this machine does not answer.
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ValueError, match=f"kernels=apex is not possible: .*{message}.*use kernels=auto"):
        layer_norm(8, 1e-12, Kernels.apex)
    with pytest.raises(ValueError, match=f"kernels=apex is not possible: .*{message}.*use kernels=auto"):
        multi_tensor_norms(Kernels.apex)
    assert isinstance(layer_norm(8, 1e-12, Kernels.auto), LayerNorm)
    assert multi_tensor_norms(Kernels.auto) is torch_norms


def some_tensors(device: str) -> list[Tensor]:
    """Stretches of one flat tensor as LAMB cuts them: odd sizes, odd offsets, one element."""
    flat = torch.randn(200_001, generator=torch.Generator().manual_seed(5)).to(device)
    return [flat[1:2], flat[2:131_075], flat[131_075:131_200], flat[131_201:]]


def test_norms_of_many_tensors_are_those_of_each() -> None:
    tensors = some_tensors("cpu")
    norms = multi_tensor_norms(Kernels.torch)(tensors)
    assert norms.shape == (4,)
    exact = torch.stack([tensor.double().norm() for tensor in tensors])
    torch.testing.assert_close(norms.double(), exact, rtol=1e-5, atol=0)
    # To the bit, so that unsharded clipping is what torch's clip_grad_norm_ does.
    assert torch.linalg.vector_norm(norms) == torch.nn.utils.get_total_norm(tensors)


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda", "cpu"])  # with offload, fp32 weights are in the host's memory
def test_apex_norms_of_many_tensors_equal_torchs(device: str) -> None:
    pytest.importorskip("amp_C")
    tensors = some_tensors(device)
    fused, plain = (multi_tensor_norms(kind)(tensors) for kind in (Kernels.apex, Kernels.torch))
    assert fused.device.type == device
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=0)


@pytest.mark.gpu
def test_apex_norms_tell_of_a_gradient_that_is_not_finite() -> None:
    pytest.importorskip("amp_C")
    tensors = [torch.ones(8, device="cuda"), torch.tensor([1.0, torch.inf], device="cuda")]
    assert not multi_tensor_norms(Kernels.apex)(tensors)[1].isfinite()


@pytest.mark.gpu
def test_apex_norm_equals_torchs() -> None:
    pytest.importorskip("fused_layer_norm_cuda")
    x = torch.randn(64, 256, device="cuda", dtype=torch.bfloat16)
    fused, plain = (layer_norm(256, 1e-12, kind).to(x) for kind in (Kernels.apex, Kernels.torch))
    torch.testing.assert_close(fused(x), plain(x), atol=2e-2, rtol=2e-2)
