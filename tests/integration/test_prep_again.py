"""The whole command, run again: after its end, a kill, ctrl-c or a loss, and with another config."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from data_prep.__main__ import main

from .prep_runs import arguments, command, contents


def test_running_it_again_redoes_nothing_and_says_so(
    corpus: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*") if path.is_file()}
    assert main(arguments(corpus, prepared, "executor.workers=3")) == 0
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*") if path.is_file()} == before
    output = capsys.readouterr().out
    assert "already holds these shards" in output
    assert f"python -m data_prep.show {prepared}" in output


def test_finished_shards_of_another_config_are_refused_by_key(
    corpus: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(prepared)
    assert main(arguments(corpus, prepared, "seed=5", "sequence.max_seq_length=64")) == 2
    message = capsys.readouterr().err
    assert "seed is 0 there and 5 here" in message
    assert "sequence.max_seq_length is 32 there and 64 here" in message
    assert contents(prepared) == before


def test_a_changed_corpus_or_vocabulary_is_refused(
    corpus: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, output_dir = tmp_path / "docs", tmp_path / "shards"
    shutil.copytree(corpus, copy)
    vocabulary = tmp_path / "vocab.txt"
    shutil.copy(prepared / "tokenizer" / "vocab.txt", vocabulary)
    keys = arguments(copy, output_dir, f"tokenizer.vocab_file={vocabulary}")
    assert main(keys) == 0
    with vocabulary.open("a") as file:
        file.write("extra\n")
    assert main(keys) == 2
    assert "the content of tokenizer.vocab_file has changed" in capsys.readouterr().err
    shutil.copy(prepared / "tokenizer" / "vocab.txt", vocabulary)
    (copy / "new.jsonl").write_text('{"text": "One more."}\n')
    assert main(keys) == 2
    assert "the files of corpus.paths have changed" in capsys.readouterr().err


def test_a_lost_shard_is_made_again_and_nothing_else(corpus: Path, prepared: Path, tmp_path: Path) -> None:
    output_dir = tmp_path / "shards"
    assert main(arguments(corpus, output_dir)) == 0
    victim, kept = sorted(output_dir.glob("train-*.tar"))[:2]
    before = kept.stat().st_mtime_ns
    victim.unlink()
    assert main(arguments(corpus, output_dir)) == 0
    assert kept.stat().st_mtime_ns == before
    assert contents(output_dir) == contents(prepared)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "vocab.txt"])
def test_a_lost_tokenizer_file_is_written_again(
    corpus: Path, prepared: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output_dir = tmp_path / "shards"
    shutil.copytree(prepared, output_dir)
    (output_dir / "tokenizer" / name).unlink()
    assert main(arguments(corpus, output_dir)) == 0
    assert capsys.readouterr().out.count(f"has lost tokenizer/{name}: preparing again") == 1
    assert contents(output_dir) == contents(prepared)


def test_an_altered_tokenizer_is_written_again(corpus: Path, prepared: Path, tmp_path: Path) -> None:
    output_dir = tmp_path / "shards"
    shutil.copytree(prepared, output_dir)
    path = output_dir / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text() + " ")
    assert main(arguments(corpus, output_dir)) == 0
    assert contents(output_dir) == contents(prepared)


def test_a_corpus_and_a_vocabulary_that_have_moved_are_the_same(
    corpus: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocabulary = prepared / "tokenizer" / "vocab.txt"
    assert main(arguments(corpus, tmp_path / "shards", f"tokenizer.vocab_file={vocabulary}")) == 0
    before = contents(tmp_path / "shards")
    shutil.copytree(corpus, tmp_path / "moved" / "docs")
    shutil.copy(vocabulary, tmp_path / "moved" / "words.txt")
    moved = f"tokenizer.vocab_file={tmp_path / 'moved' / 'words.txt'}"
    assert main(arguments(tmp_path / "moved" / "docs" / "*.jsonl", tmp_path / "shards", moved)) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert contents(tmp_path / "shards") == before


def test_an_interrupted_run_of_another_seed_leaves_no_trace(corpus: Path, prepared: Path, tmp_path: Path) -> None:
    output_dir = tmp_path / "shards"
    assert main(arguments(corpus, output_dir, "seed=9", "dupe_factor=3")) == 0
    (output_dir / "manifest.json").unlink()
    assert main(arguments(corpus, output_dir)) == 0
    assert contents(output_dir) == contents(prepared)


def test_kill_at_any_moment_and_rerun_give_the_same_bytes(corpus: Path, prepared: Path, tmp_path: Path) -> None:
    output_dir = tmp_path / "shards"
    keys = arguments(corpus, output_dir, "executor.workers=2", "executor.task_bytes=2000")
    for appearance in ("tokenizer/vocab.txt", ".work/scatter-*/completions/*", "train-*.tar"):
        process = subprocess.Popen(command(*keys), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not list(output_dir.glob(appearance)):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, f"it ended by itself before {appearance} was seen"
    assert main(keys) == 0
    assert contents(output_dir) == contents(prepared)


def test_ctrl_c_stops_all_workers_with_one_line(corpus: Path, prepared: Path, tmp_path: Path) -> None:
    keys = arguments(corpus, tmp_path / "shards", "executor.workers=2", "executor.task_bytes=2000")
    process = subprocess.Popen(
        command(*keys), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while process.poll() is None and not list((tmp_path / "shards").glob(".work/scatter-*/logs/*")):
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)
    errors = process.communicate(timeout=240)[1]
    assert process.returncode == 130
    assert errors == "data_prep: stopped; finished tasks are kept, the same command continues\n"
    assert main(keys) == 0
    assert contents(tmp_path / "shards") == contents(prepared)
