"""The whole command, as a user types it, on a corpus small enough to prepare in seconds."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from conf.compose import compose
from data_prep.__main__ import main
from data_prep.config import DataPrepConfig
from data_prep.corpus import list_files
from data_prep.documents import is_held_out
from data_prep.manifest import read_manifest
from data_prep.plan import make_plan
from data_prep.scatter import read_bucket

TEXT = "the old river runs past a quiet town where seven people keep bees and sell honey in small jars"
WORDS = TEXT.split()
KEYS = [
    "corpus.format=jsonl",
    "tokenizer.vocab_size=150",
    "dupe_factor=2",
    "held_out_fraction=0.2",
    "sequence.max_seq_length=32",
    "executor.bucket_bytes=12000",
]


def write_corpus(folder: Path, num_files: int = 6, documents: int = 10) -> Path:
    """Distinct documents of distinct sentences, one exact duplicate and one empty document in all."""
    folder.mkdir(parents=True)
    for number in range(num_files):
        lines = []
        for document in range(documents):
            shift = number * documents + document
            sentences = [
                " ".join(WORDS[(shift * 7 + line * 3 + word * (1 + shift % 5)) % len(WORDS)] for word in range(9))
                for line in range(8)
            ]
            lines.append({"text": f"Number {shift} here. " + ". ".join(s.capitalize() for s in sentences) + "."})
        (folder / f"{number}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    first = (folder / "0.jsonl").read_text().splitlines()[0]
    with (folder / f"{num_files - 1}.jsonl").open("a") as file:
        file.write(f"{first}\n" + json.dumps({"text": " \u200b "}) + "\n")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "docs")


def arguments(corpus: Path, output_dir: Path, *more: str) -> list[str]:
    return [f"output_dir={output_dir}", f"corpus.paths=[{corpus}]", *KEYS, *more]


def command(*arguments_: str) -> list[str]:
    return [sys.executable, "-m", "data_prep", *arguments_]


@pytest.fixture(scope="module")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output_dir = tmp_path_factory.mktemp("prepared") / "shards"
    assert main(arguments(corpus, output_dir)) == 0
    return output_dir


def contents(folder: Path) -> dict[str, bytes]:
    """Every file beside the hidden work folder, hidden temporary files included."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".work" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_documents_are_counted_dropped_and_split(prepared: Path) -> None:
    manifest = read_manifest(prepared)
    documents = manifest.statistics["documents"]
    assert (documents["documents"], documents["empty_documents"]) == (62, 1)
    train, held_out = manifest.statistics["train"], manifest.statistics["held_out"]
    assert train["duplicate_documents"] + held_out["duplicate_documents"] == 1
    assert train["documents"] + held_out["documents"] == 60
    assert 0 < held_out["documents"] < 30
    assert manifest.config["seed"] == 0
    assert len(AutoTokenizer.from_pretrained(prepared / "tokenizer")) == manifest.tokenizer.vocab_size
    assert {path.name for path in prepared.glob("*.tar")} == {
        shard.name for shards in manifest.splits.values() for shard in shards
    }


def test_no_document_is_on_both_sides(corpus: Path, prepared: Path) -> None:
    config = compose("data_prep", DataPrepConfig, arguments(corpus, prepared))
    plan = make_plan(
        list_files(config.corpus, [prepared]),
        task_bytes=config.executor.task_bytes,
        bucket_bytes=config.executor.bucket_bytes,
        held_out_fraction=config.held_out_fraction,
    )
    assert plan.buckets.train > 1
    files = sorted((prepared / ".work").glob("scatter-*/*.scatter"))
    ids = [{one.tobytes() for one in read_bucket(files, bucket)[0].ids} for bucket in range(plan.buckets.total)]
    assert sum(map(len, ids)) == len(set().union(*ids)) == 60
    held_out = set().union(*ids[plan.buckets.train :])
    assert held_out == {one for one in set().union(*ids) if is_held_out(one, config.held_out_fraction)}


@pytest.mark.parametrize("more", [["executor.workers=2", "executor.task_bytes=3000"], ["executor.task_bytes=20000"]])
def test_shards_and_manifest_do_not_depend_on_workers_or_tasks(
    corpus: Path, prepared: Path, tmp_path: Path, more: list[str]
) -> None:
    assert main(arguments(corpus, tmp_path / "shards", *more)) == 0
    assert contents(tmp_path / "shards") == contents(prepared)


def test_the_same_documents_in_other_files_give_the_same_shards(corpus: Path, prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    lines = [line for path in sorted(corpus.iterdir(), reverse=True) for line in path.read_text().splitlines()]
    (tmp_path / "docs" / "all.jsonl").write_text("\n".join(reversed(lines)))
    vocabulary = f"tokenizer.vocab_file={prepared / 'tokenizer' / 'vocab.txt'}"
    assert main(arguments(tmp_path / "docs", tmp_path / "shards", vocabulary)) == 0
    shards = {name: data for name, data in contents(prepared).items() if name != "manifest.json"}
    assert {name: data for name, data in contents(tmp_path / "shards").items() if name != "manifest.json"} == shards


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


def test_one_work_dir_serves_two_sequence_lengths(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = f"executor.work_dir={tmp_path / 'work'}"
    assert main(arguments(corpus, tmp_path / "short", work)) == 0
    capsys.readouterr()
    assert main(arguments(corpus, tmp_path / "long", work, "sequence.max_seq_length=64")) == 0
    output = capsys.readouterr().out
    assert "vocabulary: already trained" in output
    assert "scatter: 1 of 1 tasks are already done" in output
    assert read_manifest(tmp_path / "long").max_seq_length == 64


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


def test_a_bad_line_ends_in_one_message_and_mending_it_continues(corpus: Path, prepared: Path, tmp_path: Path) -> None:
    copy, output_dir = tmp_path / "docs", tmp_path / "shards"
    shutil.copytree(corpus, copy)
    good = (copy / "3.jsonl").read_bytes()
    (copy / "3.jsonl").write_bytes(good + b'{"text": oops}\n')
    vocabulary = f"tokenizer.vocab_file={prepared / 'tokenizer' / 'vocab.txt'}"
    keys = arguments(copy, output_dir, vocabulary, "executor.workers=2", "executor.task_bytes=2000")
    result = subprocess.run(command(*keys), capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f"{copy / '3.jsonl'}, line 11: not JSON" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 2
    assert not (output_dir / "manifest.json").exists()
    (copy / "3.jsonl").write_bytes(good)
    assert main(keys) == 0


def test_a_full_disk_at_a_shard_ends_in_one_message_and_nothing_half_written_counts(
    corpus: Path, prepared: Path, tmp_path: Path
) -> None:
    output_dir = tmp_path / "shards"
    keys = arguments(corpus, output_dir, "executor.task_bytes=2000")
    limit = 8000  # bytes a file may have: tokenizer.json has 5,200, a scatter file 1,900, the smallest shard 10,700
    result = subprocess.run(
        command(*keys),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert result.returncode != 0
    assert re.search(r"cannot write .*train-000-\d{5}-000\.tar.*File too large", result.stderr)
    assert "Traceback" not in result.stderr
    assert not [name for name in contents(output_dir) if name.endswith((".tar", ".tmp", "manifest.json"))]
    assert len(list(output_dir.glob(".work/scatter-*/*.scatter"))) == 6
    assert main(keys) == 0
    assert contents(output_dir) == contents(prepared)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["dupe_facto=3"], "dupe_facto"),
        (["output_dir=s3://bucket/shards"], "output_dir='s3://bucket/shards' is not valid: a local folder"),
        (["dupe_factor=0"], "dupe_factor=0 is not valid: at least 1"),
        (["corpus.format=docx"], "docx"),
        (["sentences.language=klingon"], "sentences.language='klingon'"),
        (["corpus.paths=[/no/such/place]"], "cannot list '/no/such/place': it does not exist"),
        (["tokenizer.vocab_file=/no/such/vocab.txt"], "/no/such/vocab.txt does not exist"),
    ],
)
def test_bad_input_ends_before_any_work(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    keys = [key for key in arguments(corpus, tmp_path / "shards") if key.partition("=")[0] != more[0].partition("=")[0]]
    assert main([*keys, *more]) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.err.startswith("data_prep: ")
    assert not (tmp_path / "shards").exists()


def test_a_corpus_without_a_sentence_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.jsonl").write_text('{"text": " "}\n')
    assert main(arguments(tmp_path / "docs", tmp_path / "shards")) == 2
    assert "no text to train a vocabulary from" in capsys.readouterr().err


def test_the_terminal_stays_quiet(corpus: Path, tmp_path: Path) -> None:
    keys = arguments(corpus, tmp_path / "shards", "executor.workers=2", "executor.task_bytes=2000")
    result = subprocess.run(
        command(*keys), capture_output=True, text=True, check=True, env=os.environ | {"NO_COLOR": "1"}
    )
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) < 30
    assert "datatrove" not in result.stdout


def test_ctrl_c_stops_all_workers_with_one_line(corpus: Path, prepared: Path, tmp_path: Path) -> None:
    keys = arguments(corpus, tmp_path / "shards", "executor.workers=2", "executor.task_bytes=2000")
    process = subprocess.Popen(
        command(*keys), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while process.poll() is None and not list((tmp_path / "shards").glob(".work/scatter-*/logs/*")):
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)
    errors = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert errors == "data_prep: stopped; finished tasks are kept, the same command continues\n"
    assert main(keys) == 0
    assert contents(tmp_path / "shards") == contents(prepared)
