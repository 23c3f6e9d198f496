"""`python -m benchmarks.distillation`: one small student, alone and with a teacher, at equal steps, over seeds."""

import contextlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from benchmarks.corpora import read_documents, write_texts
from benchmarks.ranks import run_on_ranks
from benchmarks.report import asks_for_quick, print_report
from conf.compose import compose
from data_prep.__main__ import prepare
from data_prep.config import DataPrepConfig
from pretrain.__main__ import run
from pretrain.config import PretrainConfig
from pretrain.distributed import Ranks
from pretrain.export import export_run
from pretrain.model.size import count_parameters
from pretrain.stop import StopRequest
from pretrain.track.metrics_file import METRICS_FILE, read_metrics

CORPORA = ("en_novels_dev", "en_us_speeches", "en_mlperf_wiki_dev")
LINES = 20  # of a text, which make a document: a few books are too few to hold some out
RANKS = 2
VOCAB_SIZE, LENGTH, BATCH = 4096, 64, 32
TEACHER = ["model=mini", "optimizer.learning_rate=1e-3"]  # 4 layers of 256
STUDENT = ["model=tiny", "optimizer.learning_rate=2e-3"]  # 2 layers of 128
VARIANTS = {
    "student alone": [],
    "with soft targets": ["distillation=soft_targets"],
    "with soft targets and hidden states": ["distillation=hidden_states"],
}
SETTINGS = [
    "experiment=quickstart",
    "optimizer=adamw",
    f"model.max_position_embeddings={LENGTH}",
    f"data.global_batch_size={BATCH}",
    "engine.precision=fp32",
    "checkpoint.save_every=1000000",
    "evaluation.max_sequences=2048",
    "tracking=none",
]


class Size(NamedTuple):
    """How much is trained."""

    teacher_steps: int
    student_steps: int
    seeds: Sequence[int]


class Score(NamedTuple):
    """What a run ends with: nats and share on held-out sequences, seconds of a step."""

    loss: float
    accuracy: float
    step_seconds: float


def main() -> None:
    """Train the teacher, then every student with every seed; print the table."""
    size = Size(20, 10, (0, 1)) if asks_for_quick(__doc__) else Size(1500, 500, (0, 1, 2))
    with tempfile.TemporaryDirectory(prefix="lambert-benchmark-") as folder:
        prepare_shards(Path(folder))
        scores = run_on_ranks(RANKS, train_all, Path(folder), size)[0]
    teacher, alone = scores.pop("teacher")[0], scores["student alone"]
    rows = [["teacher", f"{size.teacher_steps:,}", f"{teacher.loss:.3f}", f"{teacher.accuracy:.1%}", "", ""]]
    for name, runs in scores.items():
        gains = [other.loss - own.loss for own, other in zip(runs, alone, strict=True)]
        gain = "" if runs is alone else with_deviation(gains)
        seconds = f"{mean(run.step_seconds for run in runs):.2f}"
        accuracy = f"{mean(run.accuracy for run in runs):.1%}"
        rows.append(
            [name, f"{size.student_steps:,}", with_deviation([run.loss for run in runs]), accuracy, gain, seconds]
        )
    print_report(
        ["", "steps", "held-out loss, nats", "accuracy", "less than alone", "s a step"],
        rows,
        notes=[describe(size)],
        quick=size.student_steps < 100,
    )


def with_deviation(values: Sequence[float]) -> str:
    """Return mean ± sample deviation."""
    return f"{mean(values):.3f} ± {stdev(values):.3f}"


def describe(size: Size) -> str:
    """Return what the figures are."""
    parameters = [
        count_parameters(
            config_of(Path("unused"), "unused", chosen, f"model.vocab_size={VOCAB_SIZE}").model, with_pairs=False
        )
        for chosen in (TEACHER, STUDENT)
    ]
    teacher, student = (f"{number / 1e6:.1f} M parameters" for number in parameters)
    return (
        f"Masked-token loss after equal steps of {BATCH} sequences of {LENGTH} tokens: mean ± deviation of "
        f"{len(size.seeds)} seeds, which draw weights and order of the data alike for every row; less than alone: of "
        f"the pairs. English novels, speeches, Wikipedia; {VOCAB_SIZE:,} word pieces, no pairs, {RANKS} ranks, fp32, "
        f"AdamW. Teacher: 4 layers of 256, {teacher}; student: 2 layers of 128, {student}. The teacher's training is "
        "not in the steps, its forward passes are in the seconds."
    )


def prepare_shards(folder: Path) -> None:
    """Write FOLDER/shards."""
    documents = [text.splitlines() for name in CORPORA for text in read_documents(name)]
    parts = ("\n".join(lines[at : at + LINES]) for lines in documents for at in range(0, len(lines), LINES))
    write_texts(parts, folder / "corpus.jsonl")
    overrides = [f"output_dir={folder / 'shards'}", f"corpus.paths=[{folder / 'corpus.jsonl'}]", "corpus.format=jsonl"]
    overrides += ["pairs.kind=none", f"sequence.max_seq_length={LENGTH}", f"tokenizer.vocab_size={VOCAB_SIZE}"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        prepare(compose("data_prep", DataPrepConfig, [*overrides, "dupe_factor=1", "held_out_fraction=0.05"]))


def train_all(ranks: Ranks, folder: Path, size: Size) -> dict[str, list[Score]]:
    """Return how every run ends, by its row. All ranks call it together."""
    scores = {"teacher": [train(ranks, folder, "teacher", TEACHER, steps=size.teacher_steps)]}
    model = folder / "model"
    with contextlib.redirect_stdout(io.StringIO()):
        ranks.broadcast(lambda: export_run(folder / "teacher", model, None))
    for seed in size.seeds:
        for name, chosen in VARIANTS.items():
            overrides = [*STUDENT, *chosen, *([f"distillation.teacher={model}"] if chosen else []), f"seed={seed}"]
            score = train(ranks, folder, f"{name} {seed}".replace(" ", "-"), overrides, steps=size.student_steps)
            scores.setdefault(name, []).append(score)
    return scores


def train(ranks: Ranks, folder: Path, name: str, overrides: Sequence[str], *, steps: int) -> Score:
    """Train FOLDER/NAME from scratch and return how it ends."""
    lengths = [f"max_steps={steps}", f"lr_schedule.warmup_steps={steps // 10}", f"evaluation.every={steps}"]
    config = config_of(folder, name, overrides, *lengths)
    run(config, ranks, StopRequest())
    records = ranks.broadcast(lambda: read_metrics(folder / name / METRICS_FILE))
    last = records[-1]
    seconds = mean(float(record["step_seconds"] or 0) for record in records[1:])
    return Score(float(last["held_out_mlm_loss"] or 0), float(last["held_out_mlm_accuracy"] or 0), seconds)


def config_of(folder: Path, name: str, chosen: Sequence[str], *overrides: str) -> PretrainConfig:
    """Return the config of a run."""
    paths = [f"shards_dir={folder / 'shards'}", f"run_dir={folder / name}"]
    return compose("pretrain", PretrainConfig, [*paths, *SETTINGS, *chosen, *overrides])


if __name__ == "__main__":
    main()
