import gzip
import os
from pathlib import Path

import fsspec
import pytest

from data_prep.config import CorpusConfig, CorpusFormat
from data_prep.corpus import list_files, plain_suffix

NOWHERE = Path("/nowhere-at-all")


def write(path: Path, text: str = "text") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def listed(paths: list[str], corpus_format: CorpusFormat = CorpusFormat.text, exclude: Path = NOWHERE) -> list[str]:
    config = CorpusConfig(paths=paths, format=corpus_format, text_key="text")
    return [file.path for file in list_files(config, [exclude])]


def test_files_folders_and_globs_are_listed_once_and_sorted(tmp_path: Path) -> None:
    b, a = write(tmp_path / "x" / "b.txt"), write(tmp_path / "x" / "deep" / "a.txt")
    odd = write(tmp_path / "notes.md")
    assert listed([str(tmp_path / "x"), str(tmp_path / "*" / "*.txt"), odd, b]) == sorted([a, b, odd])


def test_a_folder_gives_only_visible_files_of_the_format(tmp_path: Path) -> None:
    wanted = [write(tmp_path / name) for name in ("a.jsonl", "b.jsonl.gz", "c.json.zst")]
    write(tmp_path / "README.md")
    write(tmp_path / ".hidden" / "d.jsonl")
    assert listed([str(tmp_path)], CorpusFormat.jsonl) == wanted


def test_a_glob_that_matches_folders_takes_what_is_in_them(tmp_path: Path) -> None:
    inside = [write(tmp_path / folder / "a.txt") for folder in ("one", "two")]
    assert listed([str(tmp_path / "*")]) == inside


def test_a_file_whose_name_looks_like_a_glob_is_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "a[1].txt")
    assert listed([path]) == [path]


def test_the_output_directory_is_never_part_of_the_corpus(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt")
    write(tmp_path / "out" / "tokenizer" / "vocab.txt")
    assert listed([str(tmp_path)], exclude=tmp_path / "out") == [path]


def test_an_output_directory_in_other_words_is_still_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "docs" / "a.txt")
    write(tmp_path / "docs" / "out" / "tokenizer" / "vocab.txt")
    (tmp_path / "link").symlink_to(tmp_path / "docs" / "out")
    assert listed([str(tmp_path / "docs")], exclude=tmp_path / "link") == [path]
    assert listed([str(tmp_path / "docs")], exclude=tmp_path / "docs" / ".." / "docs" / "out") == [path]


def test_every_excluded_folder_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt")
    folders = [tmp_path / "out", tmp_path / "work"]
    for folder in folders:
        write(folder / "b.txt")
    config = CorpusConfig(paths=[str(tmp_path)], format=CorpusFormat.text, text_key="text")
    assert [file.path for file in list_files(config, folders)] == [path]


def test_a_corpus_inside_the_output_directory_is_refused_as_such(tmp_path: Path) -> None:
    write(tmp_path / "docs" / "a.txt")
    with pytest.raises(ValueError, match="lies where data_prep writes"):
        listed([str(tmp_path / "docs")], exclude=tmp_path)


def test_a_url_of_any_fsspec_file_system_is_listed() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/lambert-corpus/a.txt", b"text")
    try:
        assert listed(["memory://lambert-corpus"]) == ["memory:///lambert-corpus/a.txt"]
    finally:
        memory.rm("/lambert-corpus", recursive=True)


def test_a_file_changed_in_place_has_another_version(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt")
    config = CorpusConfig(paths=[path], format=CorpusFormat.text, text_key="text")
    before = list_files(config, [NOWHERE])
    os.utime(path, (1, 1))
    assert list_files(config, [NOWHERE]) != before


def test_a_remote_file_written_again_has_another_version() -> None:
    memory = fsspec.filesystem("memory")
    config = CorpusConfig(paths=["memory://lambert-version/a.txt"], format=CorpusFormat.text, text_key="text")
    versions = set()
    try:
        for _ in range(2):
            memory.pipe("/lambert-version/a.txt", b"text")
            versions |= {file.version for file in list_files(config, [])}
    finally:
        memory.rm("/lambert-version", recursive=True)
    assert len(versions) == 2
    assert "" not in versions


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.txt", r"cannot list.*missing\.txt.*does not exist"),
        ("*.txt", "no file matches"),
        ("markdown", r"no \.txt file, but others such as a\.md; name them by a glob"),
        ("hollow", "all 1 files are empty"),
    ],
)
def test_paths_that_give_nothing_are_refused(tmp_path: Path, name: str, message: str) -> None:
    write(tmp_path / "markdown" / "a.md")
    write(tmp_path / "hollow" / "a.txt", "")
    with pytest.raises(ValueError, match=message):
        listed([str(tmp_path / name)])


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ValueError, match=r"corpus\.paths: cannot list 'nosuch://a'"):
        listed(["nosuch://a"])


@pytest.mark.parametrize(("path", "suffix"), [("a.JSONL.gz", ".jsonl"), ("b.txt", ".txt"), ("c.parquet", ".parquet")])
def test_a_suffix_is_read_without_the_compression(path: str, suffix: str) -> None:
    assert plain_suffix(path) == suffix


def test_sizes_are_those_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"text" * 1000))
    config = CorpusConfig(paths=[str(path)], format=CorpusFormat.text, text_key="text")
    assert [file.size for file in list_files(config, [NOWHERE])] == [path.stat().st_size]
