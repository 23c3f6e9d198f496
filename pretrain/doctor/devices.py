"""The devices that train: GPUs, each tried with a product, or the CPU; and which precision they compute in."""

import os
from collections.abc import Iterator

import torch

from pretrain.doctor.finding import Finding, broken, ok, warn
from pretrain.doctor.software import DRIVER
from pretrain.model.kernels import cpu_multiplies_bf16

SIDE = 512


def examine_devices() -> Iterator[Finding]:
    """Yield a finding for each GPU that torch sees, or one for the CPU."""
    if DRIVER.is_file() and torch.version.cuda and not torch.cuda.is_available():
        yield broken("gpu", "none", f"a driver is loaded, but torch finds no device: {why_no_cuda()}")
    if not torch.cuda.is_available():
        yield examine_cpu(cpu_multiplies_bf16())
        return
    for index in range(torch.cuda.device_count()):
        yield examine_gpu(index)
    yield from examine_peers(torch.cuda.device_count())


def why_no_cuda() -> str:
    """Return what CUDA says when it is started."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return " ".join(str(error).split())
    return f"CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')!r} leaves none"


def examine_gpu(index: int) -> Finding:
    """Describe one GPU and compute on it."""
    name, device = f"gpu {index}", torch.device("cuda", index)
    properties = torch.cuda.get_device_properties(device)
    seen = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, sm_{properties.major}{properties.minor}"
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    fault = product_fault(device, torch.bfloat16 if has_bf16 else torch.float16)
    if fault:
        return broken(name, seen, f"a product of {SIDE} x {SIDE} matrices fails: {fault}")
    if not has_bf16:
        return warn(name, f"{seen}, no bf16", "engine.precision=bf16 is refused; use fp16")
    return ok(name, f"{seen}, bf16")


def product_fault(device: torch.device, dtype: torch.dtype) -> str:
    """Return what is wrong with a product of matrices of ones on this device, or nothing."""
    try:
        ones = torch.ones(SIDE, SIDE, device=device, dtype=dtype)
        product = (ones @ ones).float().cpu()
    except RuntimeError as error:  # a torch that was not built for this GPU, a GPU that has fallen off the bus
        return " ".join(str(error).split())
    wrong = int((product != SIDE).sum())
    return f"{wrong} of its elements are wrong" if wrong else ""


def examine_peers(count: int) -> Iterator[Finding]:
    """Yield whether the GPUs of this host reach each other's memory, when there are several."""
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
    apart = [pair for pair in pairs if not torch.cuda.can_device_access_peer(*pair)]
    if apart:
        cost = "NCCL goes through host memory (/dev/shm) there: slower reductions"
        yield warn("gpu peers", f"{len(apart)} of {len(pairs)} pairs have no direct access", cost)
    elif pairs:
        yield ok("gpu peers", f"all {len(pairs)} pairs reach each other directly")


def examine_cpu(multiplies_bf16: bool) -> Finding:
    """Describe the CPU that trains when there is no GPU."""
    seen = f"{len(os.sched_getaffinity(0))} cores"
    if multiplies_bf16:
        return ok("cpu", f"{seen}, bf16 instructions")
    return ok("cpu", f"{seen}, no bf16 instructions (engine.precision=bf16 multiplies in fp32)")
