import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from conf.compose import compose
from data_prep import work_dir
from data_prep.config import DataPrepConfig
from data_prep.corpus import CorpusFile
from data_prep.plan import Plan, make_plan
from data_prep.work_dir import build_key, claim_build_dir, lock_folder, scatter_key, tokenizer_key, tokens_key

FILES = [CorpusFile(path=f"/corpus/{number}.txt", size=3_000_000, version="1") for number in range(3)]


def make_config(*overrides: str) -> DataPrepConfig:
    fixed = ["output_dir=out", "corpus.paths=[corpus]", "corpus.format=text"]
    return compose("data_prep", DataPrepConfig, [*fixed, *overrides])


def plan_of(config: DataPrepConfig, files: list[CorpusFile]) -> Plan:
    return make_plan(
        files,
        [config.corpus.format],
        task_bytes=config.executor.task_bytes,
        bucket_bytes=config.executor.bucket_bytes,
        held_out_fraction=config.held_out_fraction,
    )


def keys(config: DataPrepConfig, files: list[CorpusFile] = FILES, sha256: str = "sha") -> tuple[str, str, str, str]:
    plan = plan_of(config, files)
    tokens = tokens_key(config, files, plan, sha256)
    return tokenizer_key(config, files), tokens, scatter_key(tokens, plan), build_key(config, tokens)


TOKENIZER, TOKENS, SCATTER, BUILD = 0, 1, 2, 3


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("executor.workers=7", set()),
        ("output_dir=elsewhere", set()),
        ("executor.task_bytes=1000000", {SCATTER}),
        ("seed=1", {BUILD}),
        ("dupe_factor=2", {BUILD}),
        ("sequence.max_seq_length=64", {BUILD}),
        ("masking.masked_lm_prob=0.2", {BUILD}),
        ("pairs.short_seq_prob=0.2", {BUILD}),
        ("shards.block_size=8", {BUILD}),
        ("sentences.language=de", {TOKENS, SCATTER, BUILD}),
        ("held_out_fraction=0.5", {TOKENS, SCATTER, BUILD}),
        ("executor.bucket_bytes=1000000", {TOKENS, SCATTER, BUILD}),
        ("corpus.format=jsonl", {TOKENIZER, TOKENS, SCATTER, BUILD}),
        ("corpus.text_key=body", {TOKENIZER, TOKENS, SCATTER, BUILD}),
        ("corpus.filters=[{name: c4_paragraph}]", {TOKENS, SCATTER, BUILD}),
        ("corpus.near_duplicates={}", {TOKENS, SCATTER, BUILD}),
        ("corpus.max_document_bytes=1000", {TOKENIZER, TOKENS, SCATTER, BUILD}),
        ("corpus.on_error=skip", set()),
        ("tokenizer.vocab_size=100", {TOKENIZER}),
    ],
)
def test_a_key_changes_with_what_its_work_depends_on_and_with_nothing_else(override: str, changed: set[int]) -> None:
    pairs = zip(keys(make_config()), keys(make_config(override)), strict=True)
    assert {stage for stage, (before, after) in enumerate(pairs) if before != after} == changed


@pytest.mark.parametrize(
    "alter",
    [
        lambda files: files[:2],
        lambda files: [*files[:2], CorpusFile(path="/corpus/2.txt", size=3_000_000, version="2")],
    ],
)
def test_a_changed_corpus_changes_every_key(alter: Callable[[list[CorpusFile]], list[CorpusFile]]) -> None:
    pairs = zip(keys(make_config()), keys(make_config(), alter(FILES)), strict=True)
    assert all(before != after for before, after in pairs)


def test_another_vocabulary_changes_tokens_and_shards() -> None:
    pairs = list(zip(keys(make_config()), keys(make_config(), sha256="other"), strict=True))
    assert [before != after for before, after in pairs] == [False, True, True, True]


@pytest.mark.parametrize("name", ["BUILD_VERSION", "FORMAT_VERSION"])
def test_a_new_release_builds_again_from_the_same_tokens(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(make_config())
    monkeypatch.setattr(work_dir, name, 99)
    changed = [old != new for old, new in zip(before, keys(make_config()), strict=True)]
    assert changed == [False, False, False, True]


def test_another_numpy_builds_again_from_the_same_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(make_config())
    monkeypatch.setattr("data_prep.work_dir.version", lambda package: "0.0" if package == "numpy" else version(package))
    changed = [old != new for old, new in zip(before, keys(make_config()), strict=True)]
    assert changed == [False, False, False, True]


@pytest.mark.parametrize("package", ["warcio", "trafilatura", "justext", "lxml", "lxml_html_clean"])
def test_another_library_that_extracts_pages_tokenizes_web_archives_again(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [keys(make_config(f"corpus.format={name}")) for name in ("warc", "jsonl")]
    monkeypatch.setattr("data_prep.work_dir.version", lambda name: "0.0" if name == package else version(name))
    after = [keys(make_config(f"corpus.format={name}")) for name in ("warc", "jsonl")]
    assert all(old != new for old, new in zip(before[0], after[0], strict=True))
    assert before[1] == after[1]


def test_results_of_another_key_are_removed_and_those_of_this_key_kept(tmp_path: Path) -> None:
    folder = claim_build_dir(tmp_path, "first")
    (folder / "completions").mkdir()
    assert (claim_build_dir(tmp_path, "first") / "completions").is_dir()
    assert not (claim_build_dir(tmp_path, "second") / "completions").exists()


def test_two_processes_never_work_in_one_folder(tmp_path: Path) -> None:
    program = "import sys, pathlib, data_prep.work_dir as w\nwith w.lock_folder(pathlib.Path(sys.argv[1])): pass"
    with lock_folder(tmp_path):
        other = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
        )
    assert "another data_prep is at work" in other.stderr
    with lock_folder(tmp_path):
        pass
