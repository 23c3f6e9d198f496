"""The whole command on bad input: every mistake ends in one message, and what is finished is kept."""

import gzip
import json
import re
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.manifest import read_manifest

from .prep_runs import arguments, command, contents


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
    assert f"scatter: {len(list(output_dir.glob('.work/scatter-*/*.scatter')))} tasks in " in result.stdout
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


def write_mixed_corpus(folder: Path, corpus: Path) -> Path:
    """The good documents in one file, among them two bad lines and a broken gzip file beside it."""
    folder.mkdir()
    lines = [line for path in sorted(corpus.iterdir()) for line in path.read_bytes().splitlines()]
    lines[10:10] = [b'{"text": oops}', b'{"text": "\xff"}']
    lines.append(b'{"body": "no text"}')
    (folder / "a.jsonl").write_bytes(b"\n".join(lines))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "lost"}\n')[:-9])
    return folder


def test_what_cannot_be_read_is_left_out_counted_and_listed_if_asked_to(
    corpus: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = write_mixed_corpus(tmp_path / "docs", corpus)
    vocabulary = f"tokenizer.vocab_file={prepared / 'tokenizer' / 'vocab.txt'}"
    keys = [vocabulary, "corpus.on_error=skip"]
    assert main(arguments(mixed, tmp_path / "shards", *keys)) == 0
    output = capsys.readouterr().out
    statistics = read_manifest(tmp_path / "shards").statistics
    assert statistics["skipped"] == [
        f"{mixed / 'a.jsonl'}, line 11: not_json", f"{mixed / 'a.jsonl'}, line 12: not_utf8",
        f"{mixed / 'a.jsonl'}, line 65: no_text", f"{mixed / 'b.jsonl.gz'}: unreadable_file",
    ]  # fmt: skip
    assert statistics["documents"]["documents"] == 62
    assert {name: count for name, count in statistics["documents"].items() if name.startswith("skipped_")} == {
        "skipped_documents": 4, "skipped_not_json": 1, "skipped_not_utf8": 1, "skipped_no_text": 1,
        "skipped_unreadable_file": 1,
    }  # fmt: skip
    assert (
        "skipped    4 that could not be read (1 no_text, 1 not_json, 1 not_utf8, 1 unreadable_file), listed in "
        f"manifest.json; the first: {mixed / 'a.jsonl'}, line 11: not_json\n"
    ) in output
    assert main(arguments(mixed, tmp_path / "cut", *keys, "executor.task_bytes=1501", "executor.workers=2")) == 0
    assert contents(tmp_path / "cut") == contents(tmp_path / "shards")
    tars = {name: data for name, data in contents(prepared).items() if name.endswith(".tar")}
    assert {name: data for name, data in contents(tmp_path / "cut").items() if name.endswith(".tar")} == tars


def test_finished_tasks_serve_a_run_that_skips_but_what_was_skipped_is_never_passed_off_as_whole(
    corpus: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = write_mixed_corpus(tmp_path / "docs", corpus)
    vocabulary = f"tokenizer.vocab_file={prepared / 'tokenizer' / 'vocab.txt'}"
    keys = arguments(mixed, tmp_path / "shards", vocabulary, "executor.task_bytes=1501")
    assert main(keys) == 1
    assert "a.jsonl, line 11: not JSON" in capsys.readouterr().err
    assert main([*keys, "corpus.on_error=skip"]) == 0
    assert re.search(r"scatter: \d+ of \d+ tasks are already done", capsys.readouterr().out)
    (tmp_path / "shards" / "manifest.json").unlink()
    assert main(keys) == 2
    errors = capsys.readouterr().err
    assert re.search(r"corpus\.on_error=raise is not valid here: .*a\.jsonl, line 11: not_json", errors)


def write_vocabulary_without_mask(path: Path) -> None:
    path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nriver\n")


@pytest.mark.parametrize(
    ("name", "data", "more", "message"),
    [
        ("a.jsonl", b'{"text": "One."}\n{"text": "\xff"}\n', [], r"a\.jsonl, line 2: byte 0xff is not UTF-8; convert"),
        ("a.jsonl", b'{"text": "One."}\nTwo.\n', [], r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", b'{"text": "One."}\n\0\0\0{"text": "Two."}\n', [], r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", b'{"text": "One."}\n{"text": "' + b"two " * 99 + b'"}', ["corpus.max_document_bytes=300"],
         r"a\.jsonl, line 2: a document of 408 bytes is above corpus\.max_document_bytes=300; check"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "One."}\n')[:-4], [], r"a\.jsonl\.gz: cannot be decompressed"),
        ("a.jsonl", b"", [], r"corpus\.paths: all 1 files are empty"),
        ("a.jsonl", b"\n\n", [], r"no text to train a vocabulary from"),
        ("a.jsonl", b'{"text": "One."}\n', ["tokenizer.vocab_file={folder}/vocab.txt"], r"vocab\.txt.*\[MASK\]"),
        ("a.warc", b"no archive", ["corpus.format=warc"], r"a\.warc, record 1: not a readable WARC record"),
    ],
)  # fmt: skip
def test_a_bad_file_ends_in_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, data: bytes, more: list[str], message: str
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / name).write_bytes(data)
    write_vocabulary_without_mask(tmp_path / "vocab.txt")
    keys = [key.format(folder=tmp_path) for key in more]
    assert main(arguments(tmp_path / "docs", tmp_path / "shards", *keys)) == 2
    errors = capsys.readouterr().err
    assert re.search(message, errors)
    assert errors.startswith("data_prep: ")
    assert len(errors.splitlines()) == 1


def test_a_line_of_500_megabytes_is_refused_where_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs").mkdir()
    with (tmp_path / "docs" / "a.jsonl").open("wb") as file:
        file.write(b'{"text": "One."}\n{"text": "')
        file.truncate(500_000_000)  # a hole: NUL bytes that take no place on the disk
    assert main(arguments(tmp_path / "docs", tmp_path / "shards")) == 2
    found = r"a\.jsonl, line 2: a document of 499,999,983 bytes is above corpus\.max_document_bytes=10000000; check"
    assert re.search(found, capsys.readouterr().err)


def test_documents_of_one_sentence_and_of_nul_bytes_are_prepared(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    lines = [json.dumps({"text": f"Here is number {number} of them."}) for number in range(40)]
    lines += [json.dumps({"text": "\0" * 50}), json.dumps({"text": "Here is\0 number 1 of them\0."})]
    (tmp_path / "docs" / "a.jsonl").write_text("\n".join(lines))
    assert main(arguments(tmp_path / "docs", tmp_path / "shards", "executor.bucket_bytes=100000")) == 0
    statistics = read_manifest(tmp_path / "shards").statistics
    assert (statistics["documents"]["documents"], statistics["documents"]["empty_documents"]) == (42, 1)
    assert statistics["train"]["duplicate_documents"] + statistics["held_out"]["duplicate_documents"] == 1
    assert statistics["train"]["documents"] + statistics["held_out"]["documents"] == 40


def test_a_corpus_without_a_sentence_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.jsonl").write_text('{"text": " "}\n')
    assert main(arguments(tmp_path / "docs", tmp_path / "shards")) == 2
    assert "no text to train a vocabulary from" in capsys.readouterr().err
