"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from pretrain.config import LrScheduleConfig


def learning_rate(step: int, *, max_steps: int, peak: float, schedule: LrScheduleConfig) -> float:
    """Return the rate that optimizer step number `step` (from 0, within its phase) uses.

    Steps below `warmup_steps` climb linearly, `peak * (step + 1) / warmup_steps`: the first step learns already and
    the last one of the warmup runs at the peak. From there on

        end + (peak - end) * (1 - (step - warmup_steps) / (max_steps - warmup_steps)) ** power

    so the first step after the warmup is at the peak too, and the last step of all is one short of
    `end_learning_rate`. It is `get_polynomial_decay_schedule_with_warmup` of transformers, read at `step + 1` during
    the warmup and at `step` after it: its own reading spends the first step at rate 0. google-research/bert decays
    over all of `max_steps` instead, and so jumps down from the peak where its warmup ends.
    Steps at or beyond `max_steps` get `end_learning_rate`.
    """
    assert step >= 0, step
    warmup, end = schedule.warmup_steps, schedule.end_learning_rate
    if step < warmup:
        return peak * (step + 1) / warmup
    if step >= max_steps:
        return end
    remaining = 1 - (step - warmup) / (max_steps - warmup)
    return float(end + (peak - end) * remaining**schedule.power)
