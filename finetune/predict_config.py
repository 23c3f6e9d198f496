"""The config of prediction; defaults are in `conf/finetune/predict.yaml`."""

from dataclasses import dataclass

from conf.checks import require
from finetune.config import OnError, Precision


@dataclass(kw_only=True, slots=True)
class PredictConfig:
    """A fine-tuned model, what it reads, and where its predictions go."""

    model: str
    input: str
    output: str
    format: str | None  # one of finetune.prediction_input.InputFormat
    labelled: bool | None
    truncate: bool | None
    report_dir: str | None
    batch_size: int
    precision: Precision
    n_best: int
    on_error: OnError

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(self.n_best >= 0, "n_best", self.n_best, "zero (the best answer only) or more")
        labelled = self.labelled is not False or self.report_dir is None
        require(labelled, "report_dir", self.report_dir, "null: labelled=false leaves nothing to report on")
