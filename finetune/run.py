"""One fine-tuning from files to results, top to bottom: read and check everything, train each seed, score, write."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from transformers import Trainer, set_seed
from transformers.utils import logging as transformers_logging

from conf.checks import require, require_vacant
from conf.compose import to_dict
from finetune.adapter_config import AdapterKind
from finetune.adapters import ADAPTER_DIR, add_adapter, count_parameters, merge_adapter, plain_model
from finetune.batches import Schedule, plan_steps
from finetune.config import FinetuneConfig, OnError
from finetune.distributed import Rank, this_rank
from finetune.inputs import EVAL, TEST, TRAIN, Inputs, describe, read_inputs
from finetune.layer_decay import freeze, parameter_groups
from finetune.model_directory import check_model_directory, load_model
from finetune.origins import ORIGINS_FILE, find_origins, write_origins
from finetune.progress import write_history
from finetune.reading.faults import Faults
from finetune.results import Results, SeedResult, summarize, table, write_results
from finetune.task_config import TaggingConfig, task_name
from finetune.tasks.build import build_task, write_task
from finetune.tasks.task import LOWER_IS_BETTER, Task
from finetune.training import Engine, check_engine, finish_tracking, predict, train, trainer_arguments

CONFIG_FILE = "config.yaml"
MODEL_DIR = "model"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a training with any seed needs, checked."""

    config: FinetuneConfig
    task: Task
    metric: str
    engine: Engine
    rank: Rank
    inputs: Inputs
    schedule: Schedule


def finetune(config: FinetuneConfig) -> Results:
    """Fine-tune a model with every seed and return the scores; models, predictions and results lie in `output_dir`.

    Everything is checked before the first training. Raises ValueError or OSError for what a user can mend,
    DivergedError when a training diverges.
    """
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # what is new in a model, and what is left out, is said here in a line
    output_dir = Path(config.output_dir)
    # Before they are read: a file that changes meanwhile is refused later, not taken for what was read.
    origins = find_origins(config) if this_rank().is_first else {}
    run = _prepare(config)
    if run.rank.is_first:
        output_dir.mkdir(parents=True, exist_ok=True)
        write_origins(output_dir / ORIGINS_FILE, origins)
        (output_dir / CONFIG_FILE).write_text(yaml.safe_dump(to_dict(config), allow_unicode=True), encoding="utf-8")
    seeds = [_train_seed(run, seed) for seed in config.seeds]
    results = summarize(task_name(config.task).value, run.metric, seeds, lower_is_better=run.metric in LOWER_IS_BETTER)
    if run.rank.is_first:
        write_results(output_dir, results)
        chosen = output_dir / _best_model(results)
        print(f"\n{table(results)}\n\n{run.metric} chose seed {results.best_seed}: {chosen}")
    return results


def _prepare(config: FinetuneConfig) -> Prepared:
    """Read and check everything, say what there is, and write nothing."""
    rank, model_dir = this_rank(), Path(config.model)
    task = build_task(config.task)
    metric = choose_metric(task, config.evaluation.metric)
    engine = Engine(config.precision, config.deepspeed, config.tracking)
    check_engine(engine)
    check_model_directory(model_dir)
    if rank.is_first:
        require_vacant("output_dir", Path(config.output_dir))
    files = {TRAIN: Path(config.train_file), EVAL: Path(config.eval_file)}
    files |= {TEST: Path(config.test_file)} if config.test_file is not None else {}
    faults = Faults(skip=config.on_error is OnError.skip)
    words = isinstance(config.task, TaggingConfig)
    inputs = read_inputs(task, model_dir, files, max_length=config.max_length, words=words, faults=faults)
    count = len(inputs.data[TRAIN].features)
    schedule = plan_steps(config.training, config.evaluation, inputs=count, world_size=rank.world_size)
    learning = _check_model(config, task, schedule.total_steps)
    if rank.is_first:
        print("\n".join(filter(None, [faults.summary(), describe(inputs, files), learning])), flush=True)
    return Prepared(config, task, metric, engine, rank, inputs, schedule)


def _load(config: FinetuneConfig, task: Task, total_steps: int) -> tuple[Any, list[str]]:
    """Return the model with what is to learn of it, or beside it, and the names of the parameters that are new."""
    model, new = load_model(Path(config.model), task.auto_class, task.head_settings())
    freeze(model, config.training.train_top_layers)
    if config.adapter.kind is not AdapterKind.none:
        model = add_adapter(model, config.adapter, total_steps)
    return model, new


def _check_model(config: FinetuneConfig, task: Task, total_steps: int) -> str:
    """Return a line about what of the model learns. Raises ValueError when it cannot be trained as asked."""
    model, new = _load(config, task, total_steps)
    groups = parameter_groups(model, learning_rate=1.0, layer_decay=config.training.layer_decay, weight_decay=0.0)
    count = sum(parameter.numel() for group in groups for parameter in group["params"])
    everything = count_parameters(model)
    name = type(plain_model(model)).__name__
    return f"{name}: {count:,} of {everything:,} parameters learn; new and random: {', '.join(new) or 'none'}"


def _train_seed(run: Prepared, seed: int) -> SeedResult:
    """Train with one seed, score every split but the training's, and write model, predictions and history."""
    config, directory = run.config, Path(run.config.output_dir) / f"seed-{seed}"
    arguments = trainer_arguments(
        directory,
        seed=seed,
        metric=run.metric,
        training=config.training,
        evaluation=config.evaluation,
        schedule=run.schedule,
        engine=run.engine,
    )
    set_seed(seed)  # the new head's weights are drawn here
    model, _ = _load(config, run.task, run.schedule.total_steps)
    trainer = train(
        run.task,
        model,
        run.inputs.tokenizer,
        run.inputs.data,
        training=config.training,
        evaluation=config.evaluation,
        arguments=arguments,
    )
    scores = {split: _score(run, trainer, split, directory) for split in run.inputs.data if split != TRAIN}
    _write_model(run, trainer, directory)
    finish_tracking(config.tracking)
    best_step = trainer.state.best_global_step
    assert best_step is not None
    return SeedResult(seed, f"{directory.name}/{MODEL_DIR}", best_step, scores)


def _score(run: Prepared, trainer: Trainer, split: str, directory: Path) -> dict[str, float]:
    """Return the scores of one file and write what is predicted for it."""
    encoded = run.inputs.data[split]
    logits, loss = predict(trainer, encoded)
    if run.rank.is_first:
        records = [json.dumps(record, ensure_ascii=False) for record in run.task.decode(logits, encoded)]
        (directory / f"{split}_predictions.jsonl").write_text("\n".join([*records, ""]), encoding="utf-8")
    return run.task.scores(logits, encoded) | {"loss": loss}


def _write_model(run: Prepared, trainer: Trainer, directory: Path) -> None:
    """Write the model with its task, an adapter merged into it, and the history; remove the Trainer's checkpoints."""
    if run.config.adapter.kind is not AdapterKind.none:
        trainer.model = merge_adapter(trainer.model, directory / ADAPTER_DIR, write=run.rank.is_first)
    trainer.save_model(str(directory / MODEL_DIR))
    if run.rank.is_first:
        (directory / MODEL_DIR / "training_args.bin").unlink()  # a pickle with paths of this machine
        write_task(run.task, run.config.task, run.inputs.max_length, directory / MODEL_DIR)
        write_history(directory, trainer.state.log_history)
        for checkpoint in directory.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)


def choose_metric(task: Task, wanted: str | None) -> str:
    """Return the metric that chooses checkpoints: `wanted`, or the task's own. Raises ValueError for an unknown one."""
    known = (*task.metrics, "loss")
    require(wanted is None or wanted in known, "evaluation.metric", wanted, f"one of {', '.join(known)}")
    return wanted or task.metric


def _best_model(results: Results) -> str:
    return next(result.model for result in results.seeds if result.seed == results.best_seed)
