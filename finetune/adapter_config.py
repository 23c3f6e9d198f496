"""The config section `adapter`: which few parameters learn instead of all; defaults are in `conf/finetune/`."""

import math
from dataclasses import dataclass
from enum import StrEnum

from conf.checks import require


class AdapterKind(StrEnum):
    """What is added to a frozen encoder and learns in its place."""

    none = "none"  # nothing: the encoder itself learns
    lora = "lora"  # Hu et al. 2021, arXiv:2106.09685
    adalora = "adalora"  # Zhang et al. 2023, arXiv:2303.10512: ranks go to the matrices that need them


@dataclass(kw_only=True, slots=True)
class AdapterConfig:
    """Low-rank updates of some matrices of the encoder; head and pooler learn whole."""

    kind: AdapterKind
    rank: int  # of each update; AdaLoRA: their mean in the end
    alpha: float  # the update is scaled by alpha / rank
    dropout: float
    target_modules: list[str] | None
    initial_rank: int | None  # AdaLoRA
    warmup_ratio: float  # AdaLoRA: share of the steps with all initial ranks
    final_ratio: float  # AdaLoRA: share of the steps, at the end, with the final ranks

    def __post_init__(self) -> None:
        require(self.rank >= 1, "adapter.rank", self.rank, "at least 1")
        require(0 < self.alpha < math.inf, "adapter.alpha", self.alpha, "above 0 and finite")
        require(0 <= self.dropout < 1, "adapter.dropout", self.dropout, "at least 0 and below 1")
        targets = self.target_modules
        require(targets is None or bool(targets), "adapter.target_modules", targets, "null or at least one name")
        first = self.initial_rank
        require(first is None or first >= self.rank, "adapter.initial_rank", first, f"at least rank={self.rank}")
        for name in ("warmup_ratio", "final_ratio"):
            require(0 <= getattr(self, name) < 1, f"adapter.{name}", getattr(self, name), "at least 0 and below 1")
        shares = self.warmup_ratio + self.final_ratio
        require(shares < 1, "adapter.final_ratio", self.final_ratio, "below 1 together with warmup_ratio")
