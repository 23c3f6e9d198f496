"""The config of what watches a run: metrics, trackers and the profiler. Checked when built, as all of `config.py`."""

from dataclasses import dataclass
from enum import StrEnum

from conf.checks import require


class WandbMode(StrEnum):
    """How Weights & Biases is used."""

    online = "online"
    offline = "offline"
    disabled = "disabled"


class Artifacts(StrEnum):
    """What Weights & Biases lists as artifacts: references to files, whose bytes stay where they are."""

    none = "none"
    checkpoints = "checkpoints"
    exports = "exports"
    all = "all"

    @property
    def has_checkpoints(self) -> bool:
        """Whether each complete checkpoint is listed."""
        return self in (Artifacts.checkpoints, Artifacts.all)

    @property
    def has_exports(self) -> bool:
        """Whether models that `python -m pretrain.export` has written are listed."""
        return self in (Artifacts.exports, Artifacts.all)


@dataclass(kw_only=True, slots=True)
class TrackingConfig:
    """What watches the run. `metrics.jsonl` is always written."""

    log_every: int  # steps between two metric lines
    ranks_every: int  # steps between two comparisons of the ranks' own times and memory; 0 turns them off
    tensorboard: bool
    wandb: WandbMode
    wandb_project: str
    wandb_name: str | None
    rewind: bool  # cut W&B's history back to where a run goes on; else it shows nothing of steps that run again
    artifacts: Artifacts
    peak_tflops: float | None  # of one device, for the MFU metric; null: that of a known GPU, else no MFU

    def __post_init__(self) -> None:
        require(self.log_every >= 1, "tracking.log_every", self.log_every, "at least 1")
        require(self.ranks_every >= 0, "tracking.ranks_every", self.ranks_every, "zero (off) or more steps")
        peak = self.peak_tflops
        require(peak is None or peak > 0, "tracking.peak_tflops", peak, "null or above 0")
        require(
            not self.rewind or self.wandb is WandbMode.online,
            "tracking.rewind",
            self.rewind,
            f"only W&B's server can cut a history, and tracking.wandb={self.wandb.value}; without it no step goes back "
            "or comes twice either",
        )
        require(
            self.artifacts is Artifacts.none or self.wandb is not WandbMode.disabled,
            "tracking.artifacts",
            self.artifacts.value,
            "they are kept by W&B, and tracking.wandb=disabled; take none",
        )


@dataclass(kw_only=True, slots=True)
class ProfileConfig:
    """Which steps (the first and the last) torch's profiler traces, on which ranks; null: none, at no cost."""

    steps: list[int] | None
    ranks: list[int]

    def __post_init__(self) -> None:
        steps = self.steps
        require(
            steps is None or (len(steps) == 2 and 1 <= steps[0] <= steps[1]),
            "profile.steps",
            steps,
            "null, or the first and the last step as [10,12]",
        )
        require(
            bool(self.ranks) and all(rank >= 0 for rank in self.ranks),
            "profile.ranks",
            self.ranks,
            "at least one rank, counted from 0",
        )


def require_profiled_ranks(config: ProfileConfig, world_size: int) -> None:
    """Raise ValueError when a rank is to be profiled that the run does not have."""
    if config.steps is not None:
        there = all(rank < world_size for rank in config.ranks)
        require(there, "profile.ranks", config.ranks, f"this run has the ranks 0 to {world_size - 1}")
