"""Filters and duplicates through the whole command: the example of docs/data_prep.md."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from datatrove.pipeline.base import PipelineStep

from data_prep.__main__ import main
from data_prep.filtering.clusters import ClusterStep
from data_prep.filtering.signatures import PairsStep
from data_prep.manifest import read_manifest

ORIGINALS, NEAR, EXACT, SHORT = 60, 12, 5, 7
LETTERS = "bcdfglmnprst"
KEYS = [
    "corpus.format=jsonl",
    "tokenizer.vocab_size=200",
    "dupe_factor=2",
    "held_out_fraction=0.2",
    "sequence.max_seq_length=64",
    "executor.bucket_bytes=20000",
]
FILTERS = "corpus.filters=[{name: gopher_quality, options: {min_doc_words: 30}}]"
NEAR_DUPLICATES = "corpus.near_duplicates={}"


def write_corpus(folder: Path, num_files: int) -> Path:
    """60 documents of 120 words; of 12 a copy with one word more, of one of these a copy with two; 5 exact, 7 short."""
    rng = random.Random(7)
    words = ["".join(rng.choices(LETTERS, k=3)) + rng.choice("aeiou") for _ in range(800)] + ["the", "of", "and"] * 60

    def sentence() -> str:
        return " ".join(rng.choices(words, k=12)).capitalize() + "."

    texts = [" ".join(["The stone and the sea.", *(sentence() for _ in range(10))]) for _ in range(ORIGINALS)]
    texts += [f"{text} Really." for text in texts[: NEAR - 1]]
    texts += [f"Indeed. {texts[-1]}", *texts[20 : 20 + EXACT], *(sentence() for _ in range(SHORT))]
    rng.shuffle(texts)
    folder.mkdir(parents=True)
    for number in range(num_files):
        lines = [json.dumps({"text": text}) + "\n" for text in texts[number::num_files]]
        (folder / f"{number}.jsonl").write_text("".join(lines))
    return folder


def command(corpus: Path, output_dir: Path, *more: str) -> list[str]:
    return [f"output_dir={output_dir}", f"corpus.paths=[{corpus}]", *KEYS, *more]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "docs", num_files=4)


@pytest.fixture(scope="module")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output_dir = tmp_path_factory.mktemp("prepared") / "shards"
    assert main(command(corpus, output_dir, FILTERS, NEAR_DUPLICATES)) == 0
    return output_dir


def count(output_dir: Path, name: str) -> int:
    statistics = read_manifest(output_dir).statistics
    return sum(statistics[split][name] for split in ("train", "held_out"))


def shards_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_all_that_is_left_out_is_counted(prepared: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents = read_manifest(prepared).statistics["documents"]
    assert documents["documents"] == ORIGINALS + NEAR + EXACT + SHORT
    assert documents["dropped_by_gopher_quality"] == SHORT
    assert count(prepared, "duplicate_documents") == EXACT
    assert count(prepared, "near_duplicate_documents") == NEAR
    assert count(prepared, "documents") == ORIGINALS
    assert main(command(corpus, prepared, FILTERS, NEAR_DUPLICATES)) == 0
    assert "left out   7 by gopher_quality, 12 near duplicates" in capsys.readouterr().out


def test_without_them_only_exact_duplicates_go(corpus: Path, tmp_path: Path) -> None:
    assert main(command(corpus, tmp_path / "shards")) == 0
    documents = read_manifest(tmp_path / "shards").statistics["documents"]
    assert not [name for name in documents if name.startswith("dropped_by_")]
    assert count(tmp_path / "shards", "near_duplicate_documents") == 0
    assert count(tmp_path / "shards", "documents") == ORIGINALS + NEAR + SHORT


@pytest.mark.parametrize(
    "more",
    [
        ["executor.task_bytes=500"],
        ["executor.task_bytes=15000", "executor.kind=slurm", "executor.slurm.tasks_per_job=7"],
    ],
    ids=["local", "slurm"],
)
def test_shards_do_not_depend_on_executor_workers_or_tasks(
    corpus: Path, prepared: Path, tmp_path: Path, slurm: Path, more: list[str]
) -> None:
    assert main(command(corpus, tmp_path / "shards", FILTERS, NEAR_DUPLICATES, "executor.workers=2", *more)) == 0
    assert len(list(tmp_path.rglob("ids/*.ids"))) >= 4, "several tasks took part"
    assert (slurm / "calls").exists() == ("executor.kind=slurm" in more)
    assert shards_of(tmp_path / "shards") == shards_of(prepared)


def test_what_a_run_left_that_ended_after_the_clusters_is_removed(
    corpus: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(folder: Path) -> None:
        raise KeyboardInterrupt

    arguments = command(corpus, tmp_path / "shards", FILTERS, NEAR_DUPLICATES)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupt)
        assert main(arguments) == 130
    (ids,) = tmp_path.rglob("00000.ids")
    unfinished = ids.with_name(".00000.ids.17.tmp")
    unfinished.touch()
    assert list(tmp_path.rglob("*.minhash.sig"))
    assert main(arguments) == 0
    assert not list(tmp_path.rglob("*.minhash.sig"))
    assert not unfinished.exists()
    assert shards_of(tmp_path / "shards") == shards_of(prepared)


def test_filters_that_leave_no_document_are_named(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filters = "corpus.filters=[{name: gopher_quality, options: {min_doc_words: 1000}}]"
    assert main(command(corpus, tmp_path / "shards", filters)) == 2
    message = capsys.readouterr().err
    assert "0 documents skipped, 84 dropped_by_gopher_quality; " in message
    assert "or loosen corpus.filters" in message


def test_which_copy_stays_does_not_depend_on_the_files(prepared: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "docs", num_files=9)
    vocabulary = f"tokenizer.vocab_file={prepared / 'tokenizer' / 'vocab.txt'}"
    assert main(command(corpus, tmp_path / "shards", FILTERS, NEAR_DUPLICATES, vocabulary)) == 0
    ours, theirs = shards_of(tmp_path / "shards"), shards_of(prepared)
    assert ours.pop("manifest.json") != theirs.pop("manifest.json")
    assert ours == theirs


@pytest.mark.parametrize(
    ("step", "rank", "done"),
    [(PairsStep, 9, "near pairs: 9 of 14 tasks are already done"), (ClusterStep, 0, "near pairs: 14 of 14 tasks are")],
)
def test_an_interrupted_stage_goes_on_where_it_was(
    step: type[PipelineStep], rank: int, done: str, corpus: Path, prepared: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = step.run

    def interrupt(self: PipelineStep, data: Any = None, at: int = 0, world_size: int = 1) -> None:
        if at == rank:
            raise KeyboardInterrupt
        run(self, data, at, world_size)

    arguments = command(corpus, tmp_path / "shards", FILTERS, NEAR_DUPLICATES)
    monkeypatch.setattr(step, "run", interrupt)
    assert main(arguments) == 130
    monkeypatch.undo()
    capsys.readouterr()
    assert main(arguments) == 0
    output = capsys.readouterr().out
    assert "scatter: 1 of 1 tasks are already done" in output
    assert done in output
    assert shards_of(tmp_path / "shards") == shards_of(prepared)
    assert not list(tmp_path.rglob("*.minhash.sig"))


def test_a_wrong_option_ends_before_anything_is_written(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = "corpus.filters=[{name: regex, options: {regex_exp: x}}, {name: gopher_quality, options: {min_words: 3}}]"
    assert main(command(corpus, tmp_path / "shards", wrong)) == 2
    assert "corpus.filters.1.options.min_words=3 is not valid: gopher_quality takes" in capsys.readouterr().err
    assert not (tmp_path / "shards").exists()
