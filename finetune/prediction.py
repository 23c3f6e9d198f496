"""A fine-tuned model + a file or standard input -> JSON Lines in its order, and a report where it has labels."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from transformers.utils import logging as transformers_logging

from conf.checks import require, require_vacant
from finetune.config import OnError
from finetune.model_directory import check_model_directory, load_tokenizer
from finetune.predict_config import PredictConfig
from finetune.prediction_input import FORMATS, InputFormat, Source, find_source, read_examples
from finetune.predictor import Predictor
from finetune.reading.faults import Faults
from finetune.reading.text_file import STANDARD_INPUT
from finetune.report import Tally, write_report
from finetune.results import RESULTS_FILE
from finetune.tasks.build import FinetunedTask, read_task
from finetune.tasks.classification import Classification
from finetune.tasks.question_answering import QuestionAnswering
from finetune.tasks.tagging import Tagging
from finetune.tasks.task import Task

BATCHES_AT_ONCE = 16
"""Of a file so many batches are read together, for inputs of like length to share one; of standard input just one."""

LABEL_FIELDS = ("label", "tags", "answers")


def predict_file(config: PredictConfig) -> None:
    """Predict every example of the input. Raises ValueError or OSError for what a user can mend.

    Memory does not grow with the input, but for the labels of one that is scored, and for SQuAD JSON.
    """
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    directory = Path(config.model)
    finetuned = _load_task(directory)
    task = finetuned.task
    source = find_source(task, config.input, _format(task, config.format), config.labelled)
    require(
        source.labelled or config.report_dir is None,
        "report_dir",
        config.report_dir,
        f"null: {source.path} has no labels that could be scored; name the right column, or say labelled=true",
    )
    if config.report_dir is not None:
        require_vacant("report_dir", Path(config.report_dir))
    _adjust(task, config)

    faults = Faults(skip=config.on_error is OnError.skip)
    tally = Tally(task) if source.labelled else None
    notes = sys.stderr if config.output == "-" else sys.stdout  # standard output is for predictions, if they go there
    with _open_output(config.output) as output:
        summary = _predict(config, finetuned, source, faults, tally, output)
    print("\n".join(filter(None, [faults.summary(), summary])), file=notes)
    if tally is not None:
        report = tally.report()
        print(f"\n{report.text()}", file=notes)
        if config.report_dir is not None:
            write_report(report, Path(config.report_dir))


def _adjust(task: Task, config: PredictConfig) -> None:
    """Let the command have its way where the task's config says something else."""
    if isinstance(task, QuestionAnswering):
        task.config.n_best = max(task.config.n_best, config.n_best)
    if isinstance(task, Classification):
        task.config.truncate = task.config.truncate if config.truncate is None else config.truncate
    else:
        need = "null: only classification cuts texts; this model takes long ones in parts"
        require(config.truncate is None, "truncate", config.truncate, need)


def _predict(
    config: PredictConfig,
    finetuned: FinetunedTask,
    source: Source,
    faults: Faults,
    tally: Tally | None,
    output: TextIO,
) -> str:
    """Write the predictions, and return a line on how many there are and how they fit."""
    task, directory = finetuned.task, Path(config.model)
    tokenizer = load_tokenizer(directory, words=isinstance(task, Tagging))
    predictor = Predictor(directory, task, tokenizer, batch_size=config.batch_size, precision=config.precision)
    together = config.batch_size * (1 if source.path == STANDARD_INPUT else BATCHES_AT_ONCE)
    examples = read_examples(task, source, faults)
    count, long, fate = 0, 0, ""
    while chunk := list(islice(examples, together)):
        encoded = task.encode(chunk, tokenizer, finetuned.max_length, faults)
        if not encoded.features:
            continue
        records = task.decode(predictor.logits(encoded), encoded)
        if tally is not None:
            tally.add(records)
        for record in records:
            output.write(json.dumps(_shape(record, config.n_best, source), ensure_ascii=False) + "\n")
        output.flush()
        count, long, fate = count + len(records), long + encoded.long, encoded.fate
    if not count:
        raise ValueError(f"input={source.path} has no example that can be used\n{faults.summary()}".rstrip())
    fit = f"; {long:,} of {count:,} {fate}" if long else ""
    return f"{count:,} predictions of {source.path}{fit}"


def _shape(record: dict[str, Any], n_best: int, source: Source) -> dict[str, Any]:
    """Return what is written of a task's record: labels only where there are any, candidates only if asked for."""
    shaped = {name: value for name, value in record.items() if source.labelled or name not in LABEL_FIELDS}
    if shaped.get("pair", "") is None:
        del shaped["pair"]
    if "candidates" in shaped:
        candidates = shaped.pop("candidates")
        # Of no answer there is neither a place nor a probability of its own.
        best = candidates[0] if candidates and shaped["predicted"] else {}
        shaped |= {name: best.get(name) for name in ("start", "end", "score", "probability")}
        if n_best:
            shaped["candidates"] = candidates[:n_best]
    return shaped


def _load_task(directory: Path) -> FinetunedTask:
    if (directory / RESULTS_FILE).is_file():
        best = json.loads((directory / RESULTS_FILE).read_text(encoding="utf-8"))
        model = next(one["model"] for one in best["seeds"] if one["seed"] == best["best_seed"])
        raise ValueError(
            f"model={directory} is the folder of a fine-tuning; its best model is model={directory / model}"
        )
    check_model_directory(directory)
    return read_task(directory)


def _format(task: Task, name: str | None) -> InputFormat | None:
    known = FORMATS[type(task)]
    require(name is None or name in known, "format", name, f"null, or what this model takes: {', '.join(known)}")
    return None if name is None else InputFormat(name)


@contextmanager
def _open_output(name: str) -> Iterator[TextIO]:
    """Give standard output, or a file that gets its name when all is written. Raises ValueError when it exists."""
    if name == "-":
        yield sys.stdout
        return
    path = Path(name)
    if path.exists():
        raise ValueError(f"output={path} exists; name another file, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
