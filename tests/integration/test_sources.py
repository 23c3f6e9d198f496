"""Several sources with weights through the whole command."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from data_prep.__main__ import main
from data_prep.audit import main as audit
from data_prep.documents import clean_text
from data_prep.manifest import read_manifest
from data_prep.sentences import split_sentences

from .prep_runs import contents, write_corpus

KEYS = [
    "corpus.format=jsonl",
    "tokenizer.vocab_size=300",
    "dupe_factor=3",
    "held_out_fraction=0.2",
    "sequence.max_seq_length=32",
    "executor.bucket_bytes=20000",
]
SENTENCES = ["今天天气很好。", "我们去公园散步。", "孩子们在湖边玩耍。", "晚上大家一起吃饭。", "明天也许会下雨。"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """English documents as JSON Lines, and Chinese ones of about a quarter as many tokens as text files."""
    folder = tmp_path_factory.mktemp("sources")
    chinese = folder / "zh"
    chinese.mkdir()
    for number in range(40):
        shifted = SENTENCES[number % 5 :] + SENTENCES[: number % 5]
        (chinese / f"{number}.txt").write_text(f"第{number}篇。" + "".join(shifted), encoding="utf-8")
    return write_corpus(folder / "en"), chinese


def command(
    folders: tuple[Path, Path], output_dir: Path, *more: str, weights: tuple[Any, Any] = ("null", "null")
) -> int:
    english, chinese = folders
    sources = (
        f"corpus.sources=[{{name: en, paths: ['{english}'], weight: {weights[0]}}},"
        f"{{name: zh, paths: ['{chinese}'], format: text, language: zh, weight: {weights[1]}}}]"
    )
    return main([f"output_dir={output_dir}", sources, *KEYS, *more])


def test_weights_are_the_shares_of_tokens_that_the_shards_hold(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(folders, tmp_path / "a", weights=(1, 3)) == 0
    output = capsys.readouterr().out
    statistics = read_manifest(tmp_path / "a").statistics
    sources = statistics["sources"]
    assert sources["zh"]["documents"] == 40
    assert sources["en"]["tokens"] > 2 * sources["zh"]["tokens"]
    # Documents differ in length and buckets in how many they hold, but what is taken is taken evenly.
    assert sources["zh"]["train_token_share"] == pytest.approx(0.75, abs=0.02)
    train = statistics["train"]
    assert sources["en"]["train_tokens"] + sources["zh"]["train_tokens"] == train["tokens_taken"]
    assert train["tokens_taken"] == pytest.approx(3 * train["tokens_in_documents"], rel=0.05)
    assert train["pairs_from_one_document"] == 0
    assert "zh: 40 documents" in output
    assert audit([str(tmp_path / "a")]) == 0


def test_duplicates_do_not_change_the_shares_that_were_asked_for(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Half of the English texts three times over, some of them in the other source too."""
    english, chinese = tmp_path / "en", tmp_path / "zh"
    texts = [path.read_text() for path in sorted(folders[0].iterdir())]
    english.mkdir()
    chinese.mkdir()
    for number, text in enumerate(texts):
        for copy in range(3 if number % 2 else 1):
            (english / f"{number}-{copy}.jsonl").write_text(text)
    for path in folders[1].iterdir():
        (chinese / path.name).write_bytes(path.read_bytes())
    (chinese / "english.txt").write_text(json.loads(texts[0].splitlines()[1])["text"])
    assert command((english, chinese), tmp_path / "a", weights=(1, 1)) == 0
    statistics = read_manifest(tmp_path / "a").statistics
    assert statistics["train"]["duplicate_documents"] > 30
    assert statistics["sources"]["zh"]["train_token_share"] == pytest.approx(0.5, abs=0.02)
    assert statistics["train"]["tokens_taken"] == pytest.approx(
        3 * statistics["train"]["tokens_in_documents"], rel=0.05
    )


def test_sources_that_swap_their_files_are_another_corpus(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    english = folders[0]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.jsonl").write_bytes((english / "0.jsonl").read_bytes().replace(b"river", b"stone"))
    first = f"corpus.sources=[{{name: a, paths: ['{english}']}}, {{name: b, paths: ['{tmp_path / 'other'}']}}]"
    second = f"corpus.sources=[{{name: a, paths: ['{tmp_path / 'other'}']}}, {{name: b, paths: ['{english}']}}]"
    assert main([f"output_dir={tmp_path / 'out'}", first, *KEYS]) == 0
    assert main([f"output_dir={tmp_path / 'out'}", second, *KEYS]) == 2
    assert "the files of corpus.paths have changed" in capsys.readouterr().err


def test_an_exponent_weighs_sources_by_their_tokens(folders: tuple[Path, Path], tmp_path: Path) -> None:
    assert command(folders, tmp_path / "a", "corpus.exponent=0.7") == 0
    sources = read_manifest(tmp_path / "a").statistics["sources"]
    # One English document in 61 is a duplicate, and the held-out ones do not count; both are small beside 0.7.
    english, chinese = (sources[name]["tokens"] ** 0.7 for name in ("en", "zh"))
    assert sources["zh"]["train_token_share"] == pytest.approx(chinese / (english + chinese), abs=0.02)


def test_without_weights_sources_are_one_corpus_in_two_formats(folders: tuple[Path, Path], tmp_path: Path) -> None:
    assert command(folders, tmp_path / "a") == 0
    assert command(folders, tmp_path / "b", "executor.workers=2", "executor.task_bytes=3000") == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    statistics = read_manifest(tmp_path / "a").statistics
    assert {name: source["per_copy"] for name, source in statistics["sources"].items()} == {"en": 1.0, "zh": 1.0}
    assert statistics["train"]["tokens_taken"] == 3 * statistics["train"]["tokens_in_documents"]
    english = [json.loads(line)["text"] for path in folders[0].iterdir() for line in path.read_text().splitlines()]
    chinese = [path.read_text(encoding="utf-8") for path in folders[1].iterdir()]
    wanted = [split_sentences(clean_text(text), language) for language, texts in (("en", english), ("zh", chinese))
              for text in texts]  # fmt: skip
    assert statistics["documents"]["sentences"] == sum(map(len, wanted))
    assert sum(map(len, wanted[-len(chinese) :])) == 6 * len(chinese), "each Chinese sentence end was seen"


def test_other_weights_reuse_the_tokens_and_not_the_shards(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = f"executor.work_dir={tmp_path / 'work'}"
    assert command(folders, tmp_path / "a", work, weights=(1, 1)) == 0
    capsys.readouterr()
    assert command(folders, tmp_path / "b", work, weights=(1, 2)) == 0
    assert "scatter: 1 of 1 tasks are already done" in capsys.readouterr().out
    assert command(folders, tmp_path / "a", work, weights=(1, 2)) == 2
    assert "corpus.sources.1.weight is 1.0 there and 2.0 here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["corpus.paths=[x]", "corpus.sources=[{name: a, paths: [y]}]"], "each of corpus.sources has its own"),
        (["corpus.sources=[{name: a, paths: [y]}, {name: a, paths: [z]}]"], "a name for each"),
        (["corpus.sources=[{name: a, paths: [y], weight: 1}, {name: b, paths: [z]}]"], "one for every source or none"),
        (["corpus.sources=[{name: a, paths: [y], weight: 1}]", "corpus.exponent=0.5"], "null beside weights"),
        (["corpus.sources=[{name: a, paths: [y], language: xx}]"], "not an ISO 639-1 code"),
        (["corpus.paths=[x]", "corpus.exponent=0.5"], "null without corpus.sources"),
        ([], "corpus.paths=\\[\\] is not valid: name at least one file"),
    ],
)
def test_sources_that_contradict_each_other_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], message: str
) -> None:
    assert main([f"output_dir={tmp_path}", "corpus.format=text", *overrides]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_file_of_two_sources_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "One. Two."}))
    sources = f"corpus.sources=[{{name: a, paths: ['{path}']}}, {{name: b, paths: ['{tmp_path}']}}]"
    assert main([f"output_dir={tmp_path / 'out'}", "corpus.format=jsonl", sources]) == 2
    assert f"{path} belongs to a and to b; take it out of one" in capsys.readouterr().err
