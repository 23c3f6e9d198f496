"""A model, its inputs and a config -> the best checkpoint by the metric, through the Trainer of transformers."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainingArguments

from finetune.adapters import AdaLora, is_adalora
from finetune.batches import Schedule
from finetune.config import EvaluationConfig, Precision, Tracking, TrainingConfig
from finetune.deepspeed_file import read_deepspeed_file
from finetune.divergence import DivergedError
from finetune.last_step import WholeEpochTrainer
from finetune.layer_decay import parameter_groups
from finetune.progress import EvaluationLines
from finetune.tasks.task import LOWER_IS_BETTER, Encoded, Logits, Task


@dataclass(frozen=True, slots=True)
class Engine:
    """How a run computes, whatever it learns, and who hears of it."""

    precision: Precision
    deepspeed: str | None
    tracking: Tracking


def train(
    task: Task,
    model: Any,
    tokenizer: Any,
    data: dict[str, Encoded],
    *,
    training: TrainingConfig,
    evaluation: EvaluationConfig,
    arguments: TrainingArguments,
) -> Trainer:
    """Train on `data["train"]`; return a Trainer that holds the checkpoint with the best score on `data["eval"]`.

    Raises DivergedError when no evaluation gave a finite score.
    """
    trainer = WholeEpochTrainer(
        model=model,
        args=arguments,
        data_collator=task.collator(tokenizer),
        train_dataset=data["train"].features,
        eval_dataset=data["eval"].features,
        processing_class=tokenizer,
        compute_loss_func=task.loss(data["train"]),
        compute_metrics=lambda outputs: task.scores(as_logits(outputs.predictions), data["eval"]),
        optimizer_cls_and_kwargs=(torch.optim.AdamW, _optimizer_settings(model, training)),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(EvaluationLines(arguments.seed, str(arguments.metric_for_best_model)))
    if is_adalora(model):
        trainer.add_callback(AdaLora(model))
    if evaluation.patience is not None:
        trainer.add_callback(EarlyStoppingCallback(evaluation.patience))
    trainer.train()
    if trainer.state.best_model_checkpoint is None:
        raise DivergedError(
            f"no evaluation gave a finite {arguments.metric_for_best_model}: the training diverged; "
            "lower training.learning_rate"
        )
    return trainer


def predict(trainer: Trainer, encoded: Encoded) -> tuple[Logits, float]:
    """Return the model's outputs over all features, on every rank, and their mean loss."""
    trainer.compute_metrics = None  # what `train` set is of its own file
    features: Any = encoded.features
    output = trainer.predict(features)
    return as_logits(output.predictions), (output.metrics or {})["test_loss"]


def finish_tracking(tracking: Tracking) -> None:
    """End what a tracker calls a run, so that the next seed begins one of its own."""
    if tracking is Tracking.wandb:
        import wandb  # a second of imports that most trainings do not need

        wandb.finish()


def as_logits(predictions: Any) -> Logits:
    """Return what the Trainer gathered as one array or several."""
    return list(predictions) if isinstance(predictions, tuple | list) else [predictions]


def check_engine(engine: Engine) -> None:
    """Raise ValueError when this process cannot compute as asked.

    One process with several GPUs is refused: the Trainer would split each batch among them and so change its size.
    """
    launched = "LOCAL_RANK" in os.environ
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count > 1 and not launched:
        raise ValueError(
            f"this machine has {count} GPUs, and one process uses one: start torchrun --nproc-per-node {count} -m "
            "finetune …, or choose a GPU by CUDA_VISIBLE_DEVICES=0"
        )
    if engine.deepspeed is not None:
        read_deepspeed_file(Path(engine.deepspeed))
        if not launched:
            raise ValueError(f"deepspeed={engine.deepspeed} needs torchrun --nproc-per-node N -m finetune …")


def trainer_arguments(
    directory: Path,
    *,
    seed: int,
    metric: str,
    training: TrainingConfig,
    evaluation: EvaluationConfig,
    schedule: Schedule,
    engine: Engine,
) -> TrainingArguments:
    """Return the Trainer's arguments: all of ours in its words. For DeepSpeed they must exist before the model does."""
    return TrainingArguments(
        output_dir=str(directory),
        seed=seed,
        max_steps=schedule.total_steps,
        per_device_train_batch_size=training.micro_batch_size,
        gradient_accumulation_steps=schedule.micro_steps,
        learning_rate=training.learning_rate,
        lr_scheduler_type=_SCHEDULERS[training.lr_schedule.value],
        warmup_steps=training.warmup_ratio,
        weight_decay=training.weight_decay,
        max_grad_norm=training.gradient_clipping,
        per_device_eval_batch_size=evaluation.batch_size,
        eval_strategy="steps",
        eval_steps=schedule.evaluate_every,
        logging_steps=schedule.evaluate_every,
        save_strategy="best",
        save_total_limit=1,
        save_only_model=engine.deepspeed is None,
        load_best_model_at_end=True,
        metric_for_best_model=metric,
        greater_is_better=metric not in LOWER_IS_BETTER,
        bf16=engine.precision is Precision.bf16,
        use_cpu=not torch.cuda.is_available(),
        deepspeed=None if engine.deepspeed is None else read_deepspeed_file(Path(engine.deepspeed)),
        label_names=["labels"],  # of every task; the Trainer would look for other ones in questions
        report_to=engine.tracking.value,
        run_name=f"{directory.parent.name}-{directory.name}",
        disable_tqdm=True,
        log_level="error",
    )


_SCHEDULERS = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def _optimizer_settings(model: Any, training: TrainingConfig) -> dict[str, Any]:
    groups = parameter_groups(
        model,
        learning_rate=training.learning_rate,
        layer_decay=training.layer_decay,
        weight_decay=training.weight_decay,
    )
    return {"params": groups, "lr": training.learning_rate, "betas": (0.9, 0.999), "eps": 1e-8}
