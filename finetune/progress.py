"""One line per evaluation, and every number that was logged as JSON Lines."""

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

HISTORY_FILE = "history.jsonl"


class EvaluationLines(TrainerCallback):
    """Prints a line after each evaluation, on the first rank only, and has the last step evaluated whatever it is."""

    def __init__(self, seed: int, metric: str) -> None:
        self.seed = seed
        self.metric = metric
        self.loss: float | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for an evaluation after the last step, which need not be a multiple of the interval."""
        if state.global_step >= state.max_steps:
            control.should_log = control.should_evaluate = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Remember the training loss, which is logged before an evaluation."""
        self.loss = (logs or {}).get("loss", self.loss)

    def on_evaluate(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Print step, losses and the metric."""
        if not state.is_world_process_zero:
            return
        metrics = more["metrics"]
        loss = "" if self.loss is None else f"loss {self.loss:.4f}, "
        scores = f"eval loss {metrics['eval_loss']:.4f}"
        if self.metric != "loss":
            scores += f", {self.metric} {metrics[f'eval_{self.metric}']:.4f}"
        print(f"seed {self.seed}, step {state.global_step}/{state.max_steps} | {loss}{scores}", flush=True)


def write_history(directory: Path, history: list[dict[str, float]]) -> None:
    """Write what the Trainer logged: losses, learning rates, gradient norms and scores, by step."""
    lines = [json.dumps(entry) for entry in history]
    (directory / HISTORY_FILE).write_text("\n".join([*lines, ""]), encoding="utf-8")
