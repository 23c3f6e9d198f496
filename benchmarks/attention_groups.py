"""`python -m benchmarks.attention_groups`: how short an instance of an attention group may be (SHORTEST_IN_GROUP)."""

import time
from statistics import median

import numpy as np
import torch

from benchmarks.report import asks_for_quick, print_report
from pretrain.model.attention import SHORTEST_IN_GROUP, GroupedPlan, attention, plan_groups

SHORTEST = (0.0, 0.5, 0.75, 0.875, 1.0)
SIZES = ((128, 2), (768, 12))  # hidden, heads
DROPOUT = 0.1
DEVICE = torch.device("cpu")


def main() -> None:
    """Measure every mix of lengths at every size and print the table."""
    quick = asks_for_quick(__doc__)
    torch.set_num_threads(1)
    scale, repetitions = (8, 2) if quick else (1, 9)
    rows = []
    for hidden, heads in SIZES:
        for name, lengths in mixes(scale).items():
            plans = {shortest: plan_groups(lengths, DEVICE, shortest) for shortest in SHORTEST}
            milliseconds = measure(plans, sum(lengths), (heads, hidden // heads), repetitions)
            chosen = plans[SHORTEST_IN_GROUP]
            slots = sum(group.instances * group.length for group in chosen.groups)
            figures = [
                *(f"{value:.0f}" for value in milliseconds),
                str(len(chosen.groups)),
                f"{slots / sum(lengths) - 1:.1%}",
            ]
            rows.append([name, f"{hidden} / {heads}", *figures])
    print_report(
        [
            "instances",
            "hidden / heads",
            *(f"{shortest:g}" for shortest in SHORTEST),
            f"groups at {SHORTEST_IN_GROUP}",
            f"padding at {SHORTEST_IN_GROUP}",
        ],
        rows,
        notes=[
            f"Forward and backward of one layer's attention with dropout {DROPOUT}, fp32, one thread: ms, medians of "
            f"{repetitions} alternating repetitions. An instance joins a group when it is at least so long, relative "
            "to the group's longest. Instances that do not fill their row are uniform from 1/16 of it on."
        ],
        quick=quick,
    )


def mixes(scale: int) -> dict[str, list[int]]:
    """Return the lengths of each mix; `scale` divides the numbers of instances."""
    generator = np.random.default_rng(0)

    def rows(instances: int, length: int, full: float) -> list[int]:
        num_full = round(instances * full)
        shorter = generator.integers(length // 16, length + 1, instances - num_full)
        return [*[length] * num_full, *shorter.tolist()]

    return {
        "32 x 128, 90 % full": rows(32 // scale, 128, 0.9),
        "32 x 128, 30 % full": rows(32 // scale, 128, 0.3),
        "8 x 512, 30 % full": rows(8 // scale, 512, 0.3),
        "40 of 20 to 180": generator.integers(20, 181, 40 // scale).tolist(),
    }


def measure(plans: dict[float, GroupedPlan], tokens: int, heads: tuple[int, int], repetitions: int) -> list[float]:
    """Return median milliseconds per plan. Plans take turns; the first turn, which fills caches, does not count."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(tokens, *heads).requires_grad_() for _ in range(3))
    grad = torch.randn(tokens, *heads)
    seconds: dict[float, list[float]] = {shortest: [] for shortest in plans}
    for _ in range(repetitions + 1):
        for shortest, plan in plans.items():
            started = time.perf_counter()
            attention(query, key, value, plan, DROPOUT).backward(grad)
            seconds[shortest].append(time.perf_counter() - started)
    return [1e3 * median(of_plan[1:]) for of_plan in seconds.values()]


if __name__ == "__main__":
    main()
