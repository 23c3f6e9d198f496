import pytest

from pretrain.engine_config import Precision
from pretrain.track.peak import known_peak_tflops


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H100 NVL", 835.0),
        ("NVIDIA H200", 989.0),
        ("NVIDIA H200 NVL", 835.0),
        ("NVIDIA B200", 2250.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A100 80GB PCIe", 312.0),
        ("NVIDIA A10", 125.0),
        ("NVIDIA A10G", 70.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),  # a slice
        ("NVIDIA A1000", None),
        ("cpu", None),
    ],
)
def test_the_peak_of_a_gpu_is_found_by_its_whole_name(name: str, tflops: float | None) -> None:
    assert known_peak_tflops(name, Precision.bf16) == tflops
    assert known_peak_tflops(name, Precision.fp16) == tflops


def test_a_peak_is_of_a_precision() -> None:
    assert known_peak_tflops("NVIDIA A100-SXM4-80GB", Precision.fp32) is None
    assert known_peak_tflops("Tesla V100-SXM2-32GB", Precision.fp16) == 125.0
    assert known_peak_tflops("Tesla V100-SXM2-32GB", Precision.bf16) is None
    assert known_peak_tflops("Tesla T4", Precision.fp16) == 65.0
