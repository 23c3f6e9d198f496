"""The whole command, as a user types it: what it makes, whatever the workers, the cuts and the files."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from conf.compose import compose
from data_prep.__main__ import main
from data_prep.buckets import is_held_out
from data_prep.config import DataPrepConfig, PairKind
from data_prep.corpus import list_files
from data_prep.manifest import read_manifest
from data_prep.plan import make_plan
from data_prep.scatter import read_bucket
from data_prep.summary import describe_result

from .prep_runs import arguments, command, contents


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


def test_a_held_out_split_too_small_to_evaluate_with_is_warned_of(corpus: Path, prepared: Path) -> None:
    manifest, config = read_manifest(prepared), compose("data_prep", DataPrepConfig, arguments(corpus, prepared))
    assert "warning" not in describe_result(manifest, config, seconds=None)
    held_out = manifest.statistics["held_out"] | {"documents": 1}
    small = replace(manifest, statistics=manifest.statistics | {"held_out": held_out})
    warning = "warning    1 held-out documents cannot evaluate a model: raise held_out_fraction=0.2"
    assert warning in describe_result(small, config, seconds=None)
    config.pairs.kind = PairKind.none
    assert "warning" not in describe_result(small, config, seconds=None)


def test_no_document_is_on_both_sides(corpus: Path, prepared: Path) -> None:
    config = compose("data_prep", DataPrepConfig, arguments(corpus, prepared))
    plan = make_plan(
        list_files(config.corpus, [prepared]),
        [config.corpus.format],
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


AS_ONE_FILE: dict[str, Callable[[list[str]], str]] = {
    "jsonl": lambda texts: "".join(json.dumps({"text": text}) + "\n" for text in texts),
    "text_blank_lines": lambda texts: "\n\n".join(texts),
    "wikiextractor": lambda texts: "".join(
        f'<doc id="{number}" url="" title="T">\nT\n\n{text}\n\n</doc>\n' for number, text in enumerate(texts)
    ),
}


@pytest.mark.parametrize("corpus_format", AS_ONE_FILE)
def test_one_large_file_gives_the_same_shards_wherever_it_is_cut(
    corpus: Path, prepared: Path, tmp_path: Path, corpus_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [json.loads(line)["text"] for path in sorted(corpus.iterdir()) for line in path.read_text().splitlines()]
    file = tmp_path / "all"
    file.write_text(AS_ONE_FILE[corpus_format](texts))
    keys = [f"corpus.format={corpus_format}", f"tokenizer.vocab_file={prepared / 'tokenizer' / 'vocab.txt'}"]
    assert main(arguments(file, tmp_path / "cut", *keys, "executor.task_bytes=1001", "executor.workers=2")) == 0
    number_of_tasks = re.search(r"^scatter +(\d+) tasks", capsys.readouterr().out, re.MULTILINE)
    assert number_of_tasks is not None
    assert int(number_of_tasks[1]) > 20
    assert main(arguments(file, tmp_path / "whole", *keys)) == 0
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    tars = {name: data for name, data in contents(prepared).items() if name.endswith(".tar")}
    assert {name: data for name, data in contents(tmp_path / "cut").items() if name.endswith(".tar")} == tars


def test_the_same_documents_in_other_files_give_the_same_shards(corpus: Path, prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    lines = [line for path in sorted(corpus.iterdir(), reverse=True) for line in path.read_text().splitlines()]
    (tmp_path / "docs" / "all.jsonl").write_text("\n".join(reversed(lines)))
    vocabulary = f"tokenizer.vocab_file={prepared / 'tokenizer' / 'vocab.txt'}"
    assert main(arguments(tmp_path / "docs", tmp_path / "shards", vocabulary)) == 0
    shards = {name: data for name, data in contents(prepared).items() if name != "manifest.json"}
    assert {name: data for name, data in contents(tmp_path / "shards").items() if name != "manifest.json"} == shards


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


def test_the_terminal_stays_quiet(corpus: Path, tmp_path: Path) -> None:
    keys = arguments(corpus, tmp_path / "shards", "executor.workers=2", "executor.task_bytes=2000")
    result = subprocess.run(
        command(*keys), capture_output=True, text=True, check=True, env=os.environ | {"NO_COLOR": "1"}
    )
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) < 30
    assert "datatrove" not in result.stdout
