"""`python -m benchmarks.downstream`: is a model of half an hour on two cores better than random weights, on real tasks?

Works in runs/downstream, where the same command goes on after an interruption.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from benchmarks.corpora import read_documents, shared_data, write_texts
from benchmarks.report import asks_for_quick, print_report
from conf.compose import quoted
from pretrain.track.metrics_file import METRICS_FILE, read_metrics

RANKS, MAX_MINUTES, SEEDS = 2, 30, (0, 1, 2)
BATCH, LENGTH = 32, 128
PREPARE = ["pairs.kind=none", "masking.kind=dynamic", "dupe_factor=1", f"sequence.max_seq_length={LENGTH}"]
PRETRAIN = ["experiment=quickstart", "tracking=none", f"data.global_batch_size={BATCH}", "data.micro_batch_size=16"]
# At so small a batch better than the quick start's LAMB at 1e-2: README.md has both losses.
PRETRAIN += ["optimizer=adamw", "optimizer.learning_rate=2e-3"]
# One rate for both sides and all tasks; README.md beside this file says how it was chosen.
FINETUNE = ["training.learning_rate=2e-3", f"seeds=[{','.join(map(str, SEEDS))}]"]
AT_A_TIME = 2  # fine-tunings, of one thread each


class Task(NamedTuple):
    """Files of `shared/data/downstream`, and how long is fine-tuned; without a test file scores are of `eval`."""

    train: str
    eval: str
    test: str | None
    steps: int
    keys: Sequence[str]


class Language(NamedTuple):
    """What is pretrained on, for how many steps, and the tasks of the model."""

    corpora: Sequence[str]
    keys: Sequence[str]
    steps: int
    tasks: dict[str, Task]


SQUAD = ["task=question_answering", "task.window_overlap=32"]
GSD = ["task=tagging", "task.word_column=1", "task.tag_column=2", 'task.comment_prefix="# "', "task.by_character=true"]
LANGUAGES = {
    "en": Language(
        ("en_novels_dev", "en_mlperf_wiki_dev", "en_us_speeches", "en_factbook"),
        ["tokenizer.vocab_size=8000"],
        5000,
        {
            "banking77": Task(
                "banking77/train.csv",
                "banking77/test.csv",
                None,
                500,
                ["task=classification", "task.label_column=category", "task.truncate=true"],
            ),
            "WNUT-17": Task(
                "wnut17_ner_en/wnut17train.conll",
                "wnut17_ner_en/emerging.dev.conll",
                "wnut17_ner_en/emerging.test.annotated",
                500,
                ["task=tagging"],
            ),
            "XQuAD en": Task("xquad/split.en.train.json", "xquad/split.en.dev.json", None, 400, SQUAD),
        },
    ),
    "zh": Language(
        ("zh_classic_novels", "zh_python_docs"),
        ["tokenizer.vocab_size=6000", "sentences.language=zh"],
        5000,
        {
            "GSD zh": Task(
                "uner_zh_gsdsimp/train.iob2",
                "uner_zh_gsdsimp/dev.iob2",
                "uner_zh_gsdsimp/test.iob2",
                600,
                GSD,
            ),
            "XQuAD zh": Task(
                "xquad/split.zh.train.json",
                "xquad/split.zh.dev.json",
                None,
                400,
                [*SQUAD, "task.scoring=chinese"],
            ),
        },
    ),
}


def main() -> None:
    """Prepare, pretrain and compare for every language; print a row per task."""
    quick = asks_for_quick(__doc__)
    rows, notes = [], []
    for name, language in LANGUAGES.items():
        folder = Path("runs", "downstream-quick" if quick else "downstream", name)
        run_dir = pretrain(language, folder, steps=20 if quick else language.steps)
        notes.append(describe(name, run_dir))
        rows += compare_all(language.tasks, run_dir, folder / "tasks", quick=quick)
    header = ["task", "score", "random weights", "pretrained", "gain", "larger deviation"]
    deviations = f"Mean ± deviation of {len(SEEDS)} seeds after the same steps of fine-tuning, the last ones."
    print_report(header, rows, notes=[deviations, *notes], quick=quick)


def pretrain(language: Language, folder: Path, *, steps: int) -> Path:
    """Make shards and train on them, unless that is done; return the run directory."""
    corpus, shards, run_dir = folder / "corpus.jsonl", folder / "shards", folder / "run"
    if not corpus.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        texts = [text for name in language.corpora for text in read_documents(name)]
        write_texts(texts, corpus)
    paths = [f"output_dir={shards}", f"corpus.paths=[{corpus}]", "corpus.format=jsonl"]
    call("data_prep", *paths, *PREPARE, *language.keys)
    ranks = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS), "-m", "pretrain"]
    lengths = [f"max_steps={steps}", f"lr_schedule.warmup_steps={steps // 20}", f"evaluation.every={steps}"]
    guard = [f"checkpoint.save_every={steps}", f"max_minutes={MAX_MINUTES}", "stop_exit_code=75"]
    call(*ranks, f"shards_dir={shards}", f"run_dir={run_dir}", *PRETRAIN, *lengths, *guard)
    return run_dir


def call(module: str, *arguments: str) -> None:
    """Run `python -m module`, its output on standard error; end when it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", module, *arguments], env=environment, stdout=sys.stderr)
    if done.returncode:
        sys.exit(f"{module} ended with exit code {done.returncode}; the same command goes on")


def compare_all(tasks: dict[str, Task], run_dir: Path, folder: Path, *, quick: bool) -> list[list[str]]:
    """Return the rows of all tasks, of which `AT_A_TIME` are worked on."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(lambda title: compare(title, tasks[title], run_dir, folder, quick=quick), tasks))


def compare(title: str, task: Task, run_dir: Path, folder: Path, *, quick: bool) -> list[str]:
    """Fine-tune from the run's last checkpoint and from random weights, and return the table's row."""
    output_dir = folder / title.replace(" ", "-")
    files = {"train_file": task.train, "eval_file": task.eval, "test_file": task.test}
    keys = [f"{key}={quoted(shared_data() / 'downstream' / name)}" for key, name in files.items() if name is not None]
    steps = 2 if quick else task.steps
    # Evaluated after the last step only: no checkpoint is chosen by the score that is reported.
    keys += [*FINETUNE, *task.keys, f"training.max_steps={steps}", f"evaluation.every={steps}"]
    last = int(read_metrics(run_dir / METRICS_FILE)[-1]["step"] or 0)  # a run that was stopped has earlier ones too
    call("finetune.compare", f"run_dir={run_dir}", f"steps=[{last}]", f"output_dir={output_dir}", *keys)
    results = json.loads((output_dir / "compare.json").read_text(encoding="utf-8"))
    split, (random, pretrained) = results["split"], results["results"].values()
    metric = random["metric"]
    before, after = ((one["mean"][split][metric], one["std"][split][metric]) for one in (random, pretrained))
    cells = (f"{mean:.4f} ± {deviation:.4f}" for mean, deviation in (before, after))
    return [title, metric, *cells, f"{after[0] - before[0]:+.4f}", f"{max(before[1], after[1]):.4f}"]


def describe(language: str, run_dir: Path) -> str:
    """Return what the model has seen, and for how long."""
    records = read_metrics(run_dir / METRICS_FILE)
    last = records[-1]
    steps = int(last["step"] or 0)
    minutes = mean(float(record["step_seconds"] or 0) for record in records) * steps / 60
    loss, entropy = (f"{last[name]:.3f}" for name in ("held_out_loss", "held_out_unigram_entropy"))
    return (
        f"{language}: {steps:,} steps of {BATCH} sequences of {LENGTH} tokens in {minutes:.0f} minutes, {RANKS} ranks; "
        f"held-out loss {loss} nats, unigram entropy {entropy}."
    )


if __name__ == "__main__":
    main()
