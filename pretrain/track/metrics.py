"""Sums over a stretch of steps -> the numbers a person looks at. Plain Python: the sums are already global."""

from dataclasses import dataclass, fields

from pretrain.model_config import ModelConfig
from pretrain.track.flops import flops_per_step, model_flops_utilization

Record = dict[str, float | int | str | None]
"""One line of metrics. A key that is None, or is not there, was not measured."""

HELD_OUT_PREFIX = "held_out_"


@dataclass(frozen=True, kw_only=True, slots=True)
class LossSums:
    """Sums over items and ranks. Losses are sums of cross-entropies in nats."""

    mlm_loss_sum: float
    mlm_correct: int  # masked positions whose best id is the original one
    masked_tokens: int
    nsp_loss_sum: float
    nsp_correct: int
    pairs: int  # instances with a next-sentence label


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSums(LossSums):
    """What a stretch of one or more steps adds up to, over all ranks. Fillers count in `computed_tokens` only."""

    steps: int
    tokens: int  # real ones
    sequences: int
    squared_lengths: int  # sum over instances of length ** 2, for the FLOPs of attention
    computed_tokens: int  # those the devices worked on: fillers too, the padding inside attention not
    seconds: float  # wall clock of the stretch, evaluation and saving not included
    data_wait_seconds: float  # of `seconds`, waiting for the reader: the mean over ranks


def add_sums(first: StepSums, second: StepSums) -> StepSums:
    """Return the sums of two stretches laid end to end."""
    names = [field.name for field in fields(StepSums)]
    return StepSums(**{name: getattr(first, name) + getattr(second, name) for name in names})


def loss_metrics(sums: LossSums, prefix: str = "") -> Record:
    """Return `loss`, `mlm_loss`, `mlm_accuracy`, `nsp_loss`, `nsp_accuracy`, each under `prefix`; nats and shares.

    Each mean is over its items, so it doesn't depend on how they were spread over steps and ranks. The loss is that
    of the BERT paper: the masked-token mean plus the pair mean. A term without items adds 0 and has no keys.
    """
    record: Record = {}
    mlm_loss = nsp_loss = 0.0
    if sums.masked_tokens:
        mlm_loss = sums.mlm_loss_sum / sums.masked_tokens
        record |= {"mlm_loss": mlm_loss, "mlm_accuracy": sums.mlm_correct / sums.masked_tokens}
    if sums.pairs:
        nsp_loss = sums.nsp_loss_sum / sums.pairs
        record |= {"nsp_loss": nsp_loss, "nsp_accuracy": sums.nsp_correct / sums.pairs}
    return {f"{prefix}{name}": value for name, value in ({"loss": mlm_loss + nsp_loss} | record).items()}


def held_out_metrics(sums: LossSums) -> Record:
    """Return the keys of `loss_metrics` as `held_out_*`, for the line of the step they were measured after."""
    return loss_metrics(sums, HELD_OUT_PREFIX)


def step_metrics(sums: StepSums, *, model: ModelConfig, num_devices: int, peak_tflops: float | None) -> Record:
    """Return `loss_metrics` and how fast the stretch went.

    `tokens_per_second` and `sequences_per_second` count real ones over all ranks; `step_seconds` is the mean;
    `data_wait_fraction` and `token_efficiency` (real / computed tokens) are shares; `mfu`, also a share, is there
    when `peak_tflops` of one device (10^12 FLOP/s) is known: see `pretrain.track.flops`.
    """
    assert sums.steps > 0, sums.steps
    assert sums.seconds > 0, sums.seconds
    assert sums.computed_tokens >= sums.tokens, (sums.computed_tokens, sums.tokens)
    record = loss_metrics(sums) | {
        "tokens_per_second": sums.tokens / sums.seconds,
        "sequences_per_second": sums.sequences / sums.seconds,
        "step_seconds": sums.seconds / sums.steps,
        "data_wait_fraction": sums.data_wait_seconds / sums.seconds,
        "token_efficiency": sums.tokens / sums.computed_tokens,
    }
    if peak_tflops is not None:
        flops = flops_per_step(
            model,
            tokens=sums.tokens,
            masked_tokens=sums.masked_tokens,
            pairs=sums.pairs,
            squared_lengths=sums.squared_lengths,
        )
        record["mfu"] = model_flops_utilization(
            flops, seconds=sums.seconds, num_devices=num_devices, peak_tflops=peak_tflops
        )
    return record
