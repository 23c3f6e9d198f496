import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from data_prep.corpus import list_files, plain_suffix
from data_prep.corpus_config import CorpusFormat
from tests.unit.data_prep.example_corpus import corpus_config

NOWHERE = Path("/nowhere-at-all")


def write(path: Path, text: str = "text") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def listed(paths: list[str], corpus_format: CorpusFormat = CorpusFormat.text, exclude: Path = NOWHERE) -> list[str]:
    return [file.path for file in list_files(corpus_config(corpus_format, paths), [exclude])]


def test_files_folders_and_globs_are_listed_once_and_sorted(tmp_path: Path) -> None:
    b, a = write(tmp_path / "x" / "b.txt"), write(tmp_path / "x" / "deep" / "a.txt")
    odd = write(tmp_path / "notes.md")
    assert listed([str(tmp_path / "x"), str(tmp_path / "*" / "*.txt"), odd, b]) == sorted([a, b, odd])


def test_a_folder_gives_only_visible_files_of_the_format(tmp_path: Path) -> None:
    wanted = [write(tmp_path / name) for name in ("a.jsonl", "b.jsonl.gz", "c.json.zst")]
    write(tmp_path / "README.md")
    write(tmp_path / ".hidden" / "d.jsonl")
    assert listed([str(tmp_path)], CorpusFormat.jsonl) == wanted


@pytest.mark.parametrize(
    ("corpus_format", "names"),
    [
        (CorpusFormat.csv, ["a.csv", "b.tsv.gz"]),
        (CorpusFormat.wikiextractor, ["AA/wiki_00", "AA/wiki_01", "AB/wiki_00.bz2"]),
        (CorpusFormat.warc, ["a.warc.gz", "b.warc.wet.gz"]),
        (CorpusFormat.arrow, ["train/data-00000-of-00001.arrow"]),
    ],
)
def test_a_folder_gives_the_files_that_tools_of_the_format_write(
    tmp_path: Path, corpus_format: CorpusFormat, names: list[str]
) -> None:
    wanted = [write(tmp_path / name) for name in names]
    write(tmp_path / "README.md")
    write(tmp_path / "train" / "cache-0123456789abcdef.arrow")
    assert listed([str(tmp_path)], corpus_format) == wanted


def test_a_folder_without_suffixless_files_is_refused_in_words(tmp_path: Path) -> None:
    write(tmp_path / "a.txt")
    with pytest.raises(ValueError, match=r"has no suffixless file, but others such as a\.txt"):
        listed([str(tmp_path)], CorpusFormat.wikiextractor)


def test_a_name_on_the_hugging_face_hub_is_a_folder_of_its_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem, name = fsspec.core.url_to_fs("hf://datasets/owner/name")
    assert type(filesystem).__name__ == "HfFileSystem"
    assert name == "datasets/owner/name"
    found = {
        f"{name}/data/{path}": {"name": f"{name}/data/{path}", "size": 5, "type": "file", "blob_id": f"id of {path}"}
        for path in ("train-0.parquet", "README.md")
    }
    monkeypatch.setattr(type(filesystem), "isfile", lambda self, path: False)
    monkeypatch.setattr(type(filesystem), "isdir", lambda self, path: True)
    monkeypatch.setattr(type(filesystem), "find", lambda self, path, detail: found)
    files = list_files(corpus_config(CorpusFormat.parquet, ["hf://datasets/owner/name"]), [])
    assert [(file.path, file.version) for file in files] == [
        ("hf://datasets/owner/name/data/train-0.parquet", "id of train-0.parquet")
    ]


def test_a_hub_out_of_reach_is_an_error_that_names_the_path() -> None:
    nowhere = "import os; os.environ['HF_ENDPOINT'] = 'http://127.0.0.1:9'\n"
    code = (
        "from pathlib import Path\n"
        "from data_prep.__main__ import main\n"
        "raise SystemExit(main(['output_dir=out', 'corpus.paths=[hf://datasets/owner/name]', 'corpus.format=parquet']))"
    )
    result = subprocess.run([sys.executable, "-c", nowhere + code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert re.fullmatch(
        r"data_prep: corpus\.paths: cannot list 'hf://datasets/owner/name': ConnectError: .*refused.*\n", result.stderr
    )


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
    config = corpus_config(CorpusFormat.text, [str(tmp_path)])
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
    config = corpus_config(CorpusFormat.text, [path])
    before = list_files(config, [NOWHERE])
    os.utime(path, (1, 1))
    assert list_files(config, [NOWHERE]) != before


def test_a_remote_file_written_again_has_another_version() -> None:
    memory = fsspec.filesystem("memory")
    config = corpus_config(CorpusFormat.text, ["memory://lambert-version/a.txt"])
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
    config = corpus_config(CorpusFormat.text, [str(path)])
    assert [file.size for file in list_files(config, [NOWHERE])] == [path.stat().st_size]


@pytest.mark.parametrize("path", ["raw", "raw/*", "raw/*/*.txt", "raw/**/*.txt", "raw/**"])
def test_links_to_folders_are_followed_once_and_not_in_circles(tmp_path: Path, path: str) -> None:
    write(tmp_path / "big" / "wiki" / "deep" / "a.txt")
    write(tmp_path / "big" / "wiki" / "b.txt")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "wiki").symlink_to(tmp_path / "big" / "wiki")
    for name in ("back", "up"):
        (tmp_path / "big" / "wiki" / name).symlink_to(tmp_path / "big" / "wiki")
    found = [str(tmp_path / "raw" / "wiki" / name) for name in ("b.txt", "deep/a.txt")]
    assert listed([str(tmp_path / path)]) == (found[:1] if path == "raw/*/*.txt" else found)


def test_a_folder_that_cannot_be_listed_and_a_link_to_nothing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"corpus\.paths: cannot list .*No such file or directory: .*/a\.txt"):
        listed([str(tmp_path)])

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match=r"corpus\.paths: cannot list .*Permission denied"):
        listed([str(tmp_path)])


@pytest.mark.parametrize("path", ["raw", "raw/*.txt", "raw/a.txt"])
def test_size_and_version_of_a_link_are_those_of_its_target(tmp_path: Path, path: str) -> None:
    target = write(tmp_path / "big.txt")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.txt").symlink_to(target)
    config = corpus_config(CorpusFormat.text, [str(tmp_path / path)])
    os.utime(target, (1, 1))
    [before] = list_files(config, [NOWHERE])
    os.utime(target, (2, 2))
    [after] = list_files(config, [NOWHERE])
    assert (before.size, before.version, after.version) == (4, "1.0", "2.0")
