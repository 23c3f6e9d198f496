"""Which metrics are shown together: one table, from which the report and the W&B workspace are laid out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A metric in a panel. `sparse`: measured now and then, so its values are marked as points."""

    metric: str
    label: str
    sparse: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Curves over the optimizer step that share one axis.

    `reference` is a metric whose newest value is a level to compare with; `layers` is the beginning of the names of
    metrics that there is one of for each layer: they are shown as a panel of their own, without other curves. Values
    may be `whole` numbers, or `scattered`: names that no line joins, and without a mean. A panel that says something
    `unless_zero` is left out of a report while all are 0.
    """

    title: str
    unit: str
    curves: tuple[Curve, ...] = ()
    logarithmic: bool = False
    from_zero: bool = False
    whole: bool = False
    scattered: bool = False
    unless_zero: bool = False
    reference: Curve | None = None
    layers: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names that the panel shows, but for those that begin with `layers`."""
        reference = () if self.reference is None else (self.reference.metric,)
        return (*(curve.metric for curve in self.curves), *reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


def _trained_and_held_out(title: str, unit: str, metric: str, reference: Curve | None = None) -> Panel:
    return Panel(
        title=title,
        unit=unit,
        curves=(
            Curve(metric=metric, label="training"),
            Curve(metric=f"held_out_{metric}", label="held-out", sparse=True),
        ),
        reference=reference,
    )


def _single(title: str, unit: str, metric: str, *, logarithmic: bool = False, count: bool = False) -> Panel:
    return Panel(
        title=title,
        unit=unit,
        curves=(Curve(metric=metric, label=title.lower()),),
        logarithmic=logarithmic,
        from_zero=not logarithmic,
        whole=count,
        unless_zero=count,
    )


def _slowest_and_median(title: str, what: str) -> Panel:
    return Panel(
        title=title,
        unit="seconds per step",
        curves=(
            Curve(metric=f"slowest_{what}_seconds", label="slowest rank", sparse=True),
            Curve(metric=f"median_{what}_seconds", label="median rank", sparse=True),
        ),
        from_zero=True,
    )


SECTIONS = (
    Section(
        title="Losses and accuracies",
        panels=(
            _trained_and_held_out(
                "Masked-token loss",
                "nats",
                "mlm_loss",
                Curve(metric="held_out_unigram_entropy", label="unigram entropy of the held-out labels"),
            ),
            _trained_and_held_out("Masked-token accuracy", "share", "mlm_accuracy"),
            _trained_and_held_out("Next-sentence loss", "nats", "nsp_loss"),
            _trained_and_held_out("Next-sentence accuracy", "share", "nsp_accuracy"),
            _trained_and_held_out("Loss, both terms", "nats", "loss"),
            _single("Distance to the teacher's distributions", "nats", "distillation_loss"),
            _single("Distance to the teacher's hidden states", "1 - cosine", "hidden_loss"),
        ),
    ),
    Section(
        title="Optimizer",
        panels=(
            _single("Learning rate", "per step", "learning_rate"),
            _single("Gradient norm", "before clipping", "grad_norm", logarithmic=True),
            Panel(
                title="Trust ratios",
                unit="‖w‖ / ‖u‖",
                curves=(
                    Curve(metric="trust_ratio_max", label="max"),
                    Curve(metric="trust_ratio_median", label="median"),
                    Curve(metric="trust_ratio_min", label="min"),
                ),
                logarithmic=True,
            ),
            Panel(title="Trust ratio by layer", unit="median ‖w‖ / ‖u‖", layers="trust_ratio/", logarithmic=True),
            _single("Skipped steps", "since the beginning", "skipped_steps", count=True),
            _single("Loss scale", "fp16", "loss_scale", logarithmic=True),
        ),
    ),
    Section(
        title="Speed",
        panels=(
            _single("Real tokens per second", "all ranks", "tokens_per_second"),
            _single("Model FLOPs utilization", "share of the peak", "mfu"),
            _single("Step time", "seconds", "step_seconds"),
            _single("Data wait", "share of the step", "data_wait_fraction"),
            _single("Token efficiency", "real / computed tokens", "token_efficiency"),
            _single("Memory", "GB, highest peak of any rank", "memory_gb"),
        ),
    ),
    Section(
        title="Checkpoints",
        panels=(
            Panel(
                title="Time of saves",
                unit="seconds",
                curves=(
                    Curve(metric="save_seconds", label="until complete", sparse=True),
                    Curve(metric="save_stall_seconds", label="training held up", sparse=True),
                ),
                from_zero=True,
            ),
            _single("Failed saves", "since the start", "save_failures", count=True),
        ),
    ),
    Section(
        title="Slowest rank",
        panels=(
            _slowest_and_median("Forward passes of the slowest rank", "rank"),
            _slowest_and_median("Reading of the slowest rank", "reader"),
            Panel(
                title="Which rank is slowest",
                unit="rank",
                curves=(
                    Curve(metric="slowest_rank", label="forward passes", sparse=True),
                    Curve(metric="slowest_reader", label="reading", sparse=True),
                ),
                from_zero=True,
                whole=True,
                scattered=True,
            ),
        ),
    ),
    Section(
        title="Progress",
        panels=(
            _single("Phase", "counted from 0", "phase", count=True),
            _single("Epoch", "of the phase", "epoch"),
            _single("Tokens seen", "real ones", "tokens_seen"),
        ),
    ),
)
