"""What known GPUs could do at most: the peak that model FLOPs utilization is measured against, unless it is given."""

from pretrain.engine_config import Precision

# Dense TFLOP/s of 16-bit tensor cores (bf16 and fp16 alike, fp32 accumulation) as NVIDIA's data sheets give them; where
# they print the figure "with sparsity", half of it. The first name that the device's name contains counts.
BF16_TFLOPS = {
    "B200": 2250.0,
    "H200 NVL": 835.0,
    "H200": 989.0,
    "GH200": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,  # SXM
    "A100": 312.0,  # SXM and PCIe
    "A30": 165.0,
    "A40": 149.7,
    "A10G": 70.0,
    "A10": 125.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
}
FP16_ONLY_TFLOPS = {"V100 SXM2": 125.0, "V100 PCIE": 112.0, "T4": 65.0}  # before Ampere: no bf16 tensor cores


def known_peak_tflops(device_name: str, precision: Precision) -> float | None:
    """Return the dense peak of one device in 10^12 FLOP/s; None for one that is not in the tables, and for fp32.

    fp32 runs outside the tensor cores or in TF32, as torch's settings say: there the peak must be given, and for a
    slice of a GPU (MIG) too.
    """
    table = BF16_TFLOPS | FP16_ONLY_TFLOPS if precision is Precision.fp16 else BF16_TFLOPS
    words = f" {device_name.replace('-', ' ')} "
    if precision is Precision.fp32 or " MIG " in words:
        return None
    return next((peak for name, peak in table.items() if f" {name} " in words), None)
