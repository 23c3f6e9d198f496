"""Which implementation computes layer norms, products, embeddings, dropout and norms of many tensors.

On a GPU everything runs in the dtype of the weights. On a CPU low-precision weights meet fp32 activations, because
torch 2.13 sums the gradients of bf16 layer norms and embeddings in bf16 there (4,096 tokens: 34 % off for a norm's
bias, 10 % for token types), and a CPU without bf16 instructions multiplies bf16 matrices three to four times slower
than fp32 ones. Each gradient is then summed in fp32 and rounded once.
"""

import functools
import math
from collections.abc import Callable, Sequence
from importlib.machinery import PathFinder
from importlib.util import find_spec

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.config import Kernels

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""What `torch.cpu.get_capabilities` calls hardware products of bf16, on x86 (two) and on ARM (two)."""


def activation_dtype(weight: Tensor) -> torch.dtype:
    """Return the dtype of activations where `weight` is used: fp32 on a CPU, else the weight's own."""
    return torch.float32 if weight.device.type == "cpu" else weight.dtype


@functools.cache
def cpu_multiplies_bf16() -> bool:
    """Return whether this CPU has instructions for bf16 products."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in BF16_INSTRUCTIONS)


def embedding(ids: Tensor, weight: Tensor) -> Tensor:
    """Return rows of `weight` [rows, hidden], `activation_dtype` [tokens, hidden], for int64 ids [tokens]."""
    return F.embedding(ids, weight.to(activation_dtype(weight)))


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return `x @ weight.T + bias`, [tokens, out] in the dtype of x, for x [tokens, in] and weight [out, in]."""
    if x.dtype == weight.dtype:
        return F.linear(x, weight, bias)
    if weight.dtype == torch.bfloat16 and cpu_multiplies_bf16():
        return F.linear(x.to(weight.dtype), weight, bias).to(x.dtype)
    return F.linear(x, weight.to(x.dtype), bias.to(x.dtype))


class Linear(nn.Linear):
    """`nn.Linear` through `linear`: same parameters, same names."""

    def forward(self, x: Tensor) -> Tensor:
        """Return [tokens, out_features] for x [tokens, in_features]."""
        return linear(x, self.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` that takes activations wider than its weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x [tokens, hidden] normalised over hidden, in the dtype of x."""
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def layer_norm(hidden_size: int, eps: float, kernels: Kernels) -> nn.Module:
    """Return a layer norm with parameters `weight` and `bias`, [hidden_size].

    `auto` takes apex's fused one where CUDA and apex are present. Raises ValueError when `apex` is asked for and is
    not there.
    """
    if not takes_apex(kernels):
        return LayerNorm(hidden_size, eps=eps)
    from apex.normalization import FusedLayerNorm  # importing apex without CUDA fails

    fused: nn.Module = FusedLayerNorm(hidden_size, eps=eps)
    return fused


Norms = Callable[[Sequence[Tensor]], Tensor]
"""Takes one or more fp32 tensors of one device and returns the Euclidean norm of each, fp32 [tensors]."""


def torch_norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the norms by torch's own kernels; see `Norms`."""
    return torch.stack(list(torch._foreach_norm(list(tensors))))


def multi_tensor_norms(kernels: Kernels) -> Norms:
    """Return what takes the norms of many tensors at once: apex's kernel, as `layer_norm` chooses it, else torch's.

    Tensors in the host's memory (offload) always go torch's way: apex has no kernel for them. Raises ValueError when
    `apex` is asked for and is not there.
    """
    if not takes_apex(kernels):
        return torch_norms
    import amp_C
    from apex.multi_tensor_apply import multi_tensor_applier

    def apex_norms(tensors: Sequence[Tensor]) -> Tensor:
        if not tensors[0].is_cuda:
            return torch_norms(tensors)
        not_finite = torch.zeros(1, dtype=torch.int32, device=tensors[0].device)  # a flag that the kernel asks for
        _, each = multi_tensor_applier(amp_C.multi_tensor_l2norm, not_finite, [list(tensors)], True)
        norms: Tensor = each
        return norms

    return apex_norms


def takes_apex(kernels: Kernels) -> bool:
    """Return whether apex's kernels are used. Raises ValueError when `apex` is asked for and is not there."""
    missing = "" if kernels is Kernels.torch else why_no_apex()
    if kernels is Kernels.apex and missing:
        raise ValueError(f"kernels=apex is not possible: {missing}; use kernels=auto or kernels=torch")
    return kernels is not Kernels.torch and not missing


def why_no_apex() -> str:
    """Return why apex's kernels can't run here, or nothing if they can. Imports nothing: apex may be a stranger."""
    spec = find_spec("apex")
    if spec is None:
        return "NVIDIA apex is not installed (build it from github.com/NVIDIA/apex with its CUDA extensions)"
    if PathFinder.find_spec("apex.normalization", list(spec.submodule_search_locations or [])) is None:
        return f"the apex at {spec.origin} is another project (PyPI's), not NVIDIA's"
    if find_spec("fused_layer_norm_cuda") is None or find_spec("amp_C") is None:
        return "NVIDIA apex was built without its CUDA extensions"
    return "" if torch.cuda.is_available() else "torch finds no CUDA device"


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Return x with elements zeroed at `probability` and the others scaled by 1 / (1 - probability).

    On a CPU, torch draws one 32-bit number per element from a serial Mersenne Twister, which took as long as all
    products of a BERT-tiny step. Here one draw from torch's generator (so its seed decides, and activation
    checkpointing replays it) seeds numpy's SFC64, which gives 16 bits per element: 2.1 million elements take
    11 ms, F.dropout 34 ms (one thread). The probability is rounded to a multiple of 1 / 65,536.
    """
    if not training or probability == 0 or x.device.type != "cpu":
        return F.dropout(x, probability, training)
    seed = int(torch.randint(2**63 - 1, ()))
    words = np.random.SFC64(seed).random_raw(math.ceil(x.numel() / 4))
    draws = torch.from_numpy(words).view(torch.int16)[: x.numel()].view(x.shape)
    num_dropped = min(round(probability * 2**16), 2**16 - 1)  # of the 2**16 values of a draw
    return x.masked_fill(draws < num_dropped - 2**15, 0).mul_(1 / (1 - num_dropped / 2**16))
