import bz2
import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
import zstandard

from data_prep.corpus import list_files
from data_prep.corpus_config import CorpusFormat
from data_prep.corpus_parts import CorpusPart, cut_files
from data_prep.plan import write_tasks
from data_prep.reading import readers
from data_prep.reading.readers import CorpusReader, check_format
from tests.unit.data_prep.example_corpus import SKIP, corpus_config, read, read_what_can_be, write

LINES = b'{"text": "first", "id": 1}\n\n{"text": "second"}\n'
MEMORY = "memory://lambert-readers"

every_compression = pytest.mark.parametrize(
    ("suffix", "compress"),
    [("", bytes), (".gz", gzip.compress), (".zst", zstandard.compress), (".bz2", bz2.compress)],
)


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.rm("/lambert-readers", recursive=True)


@every_compression
def test_json_lines_are_read_whatever_the_compression(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    path = write(tmp_path / f"a.jsonl{suffix}", compress(LINES) + compress(LINES))
    assert read(path, CorpusFormat.jsonl) == [(1, "first"), (3, "second"), (4, "first"), (6, "second")]


@every_compression
def test_a_remote_file_is_read_as_a_local_one(
    memory: fsspec.AbstractFileSystem, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    memory.pipe(f"/lambert-readers/a.jsonl{suffix}", compress(LINES))
    [file] = list_files(corpus_config(CorpusFormat.jsonl, [MEMORY]), [])
    assert read(file.path, CorpusFormat.jsonl) == [(1, "first"), (3, "second")]


def test_a_remote_file_is_read_in_byte_ranges_and_keeps_its_line_numbers(memory: fsspec.AbstractFileSystem) -> None:
    lines = [json.dumps({"text": f"number {number}"}) for number in range(60)]
    lines[50] = "oops"
    memory.pipe("/lambert-readers/a.jsonl", "\n".join(lines).encode())
    config = corpus_config(CorpusFormat.jsonl, [MEMORY])
    parts = cut_files(list_files(config, []), [config.format], 100)
    found = [read_what_can_be(part.path, CorpusFormat.jsonl, part) for part in parts]
    texts = [text for texts, _ in found for text in texts]
    assert texts == [json.loads(line)["text"] for line in lines if line != "oops"]
    assert [place for _, skipped in found for place in skipped] == ["a.jsonl, line 51: not_json"]


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".zst", zstandard.compress), (".bz2", bz2.compress)]
)
@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda data: b"junk" + data])
def test_a_cut_or_damaged_compressed_file_is_an_error(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes], damage: Callable[[bytes], bytes]
) -> None:
    path = write(tmp_path / f"a.jsonl{suffix}", damage(compress(LINES * 100)))
    with pytest.raises(ValueError, match=r"a\.jsonl.*cannot be decompressed"):
        read(path, CorpusFormat.jsonl)


def test_of_a_cut_compressed_file_the_whole_documents_are_read_and_the_rest_is_left_out(tmp_path: Path) -> None:
    lines = b"".join(json.dumps({"text": str(number)}).encode() + b"\n" for number in range(100_000))
    path = write(tmp_path / "a.jsonl.gz", gzip.compress(lines)[:-1000])
    texts, skipped = read_what_can_be(path, CorpusFormat.jsonl)
    assert 80_000 < len(texts) < 100_000
    assert texts == [str(number) for number in range(len(texts))]
    assert skipped == ["a.jsonl.gz: unreadable_file"]


@pytest.mark.parametrize(
    "corpus_format",
    sorted({*CorpusFormat} - {CorpusFormat.parquet, CorpusFormat.arrow}),
)
@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2"])
def test_a_compressed_file_of_zero_bytes_is_refused(tmp_path: Path, corpus_format: CorpusFormat, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", b"")
    with pytest.raises(ValueError, match=r"a\.\w+: cannot be decompressed \(it has zero bytes\); fetch"):
        read(path, corpus_format)


def test_a_compressed_file_of_no_text_and_an_empty_plain_file_are_read(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.jsonl.gz", gzip.compress(b"")), CorpusFormat.jsonl) == []
    assert read(write(tmp_path / "a.jsonl", b""), CorpusFormat.jsonl) == []
    assert read(write(tmp_path / "a.csv", b""), CorpusFormat.csv) == []


def test_the_error_of_a_disk_or_a_network_is_not_taken_for_a_damaged_file(tmp_path: Path) -> None:
    class Broken:
        closed = False

        def read(self, size: int = -1) -> bytes:
            raise ConnectionResetError("the network is down")

    part = CorpusPart(path="a.jsonl.gz", size=10)
    config = corpus_config(CorpusFormat.jsonl, on_error=SKIP)
    with pytest.raises(ConnectionResetError, match="the network is down"):
        list(readers.read_texts(Broken(), part, config, lambda place, found: None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("corpus_format", "name"),
    [(CorpusFormat.jsonl, "a.jsonl.gz"), (CorpusFormat.parquet, "a"), (CorpusFormat.arrow, "a")],
)
def test_a_refusal_of_a_remote_file_system_is_no_damage_either(corpus_format: CorpusFormat, name: str) -> None:
    class Forbidden(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("Forbidden: no more of it")  # as gcsfs does: without a number

    part = CorpusPart(path=name, size=10)
    config = corpus_config(corpus_format, on_error=SKIP)
    with pytest.raises(OSError, match="Forbidden"):
        list(readers.read_texts(Forbidden(bytes(100)), part, config, lambda place, found: None))


@pytest.mark.parametrize(
    ("corpus_format", "data"),
    [(CorpusFormat.jsonl, b'{"text": "first"}\n'), (CorpusFormat.wikiextractor, b"<doc id=1>\nfirst</doc>\n</doc>\n")],
)
def test_a_byte_order_mark_takes_no_document(tmp_path: Path, corpus_format: CorpusFormat, data: bytes) -> None:
    plain = read(write(tmp_path / "a", data), corpus_format)
    assert len(plain) == 1
    assert read(write(tmp_path / "b", b"\xef\xbb\xbf" + data), corpus_format) == plain


def task_of(tmp_path: Path, *parts: CorpusPart) -> Path:
    write_tasks(tmp_path, [[], list(parts)])
    return tmp_path


def test_a_task_reads_its_own_parts_only_and_notes_its_progress(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.jsonl", json.dumps({"text": str(number)}).encode()) for number in range(3)]
    parts = [CorpusPart(path=str(path), size=path.stat().st_size) for path in paths]
    write_tasks(tmp_path, [parts[:1], parts[1:]])
    reader = CorpusReader(tmp_path, corpus_config(CorpusFormat.jsonl))
    documents = list(reader.run(rank=1, world_size=2))
    assert [document.text for document in documents] == ["1", "2"]
    assert documents[1].metadata["source"] == f"{paths[2]}:1"
    assert int((tmp_path / "progress" / "00001").read_text()) > 0


def test_a_task_counts_and_lists_what_it_leaves_out_and_the_next_one_starts_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", LINES + b"bad\n" * 30 + b'{"text": 1}\n' + LINES)
    stage_dir = task_of(tmp_path, CorpusPart(path=str(path), size=path.stat().st_size))
    reader = CorpusReader(stage_dir, corpus_config(CorpusFormat.jsonl, on_error=SKIP))
    for _ in range(2):
        assert len(list(reader.run(rank=1))) == 4
        assert reader.skipped.counts == {"skipped_documents": 31, "skipped_not_json": 30, "skipped_no_text": 1}
        assert reader.skipped.places == [f"{path}, line {line}: not_json" for line in range(4, 24)]
    assert list(reader.run(rank=0)) == []
    assert (reader.skipped.counts, reader.skipped.places) == ({}, [])


def test_by_default_the_first_that_cannot_be_read_ends_the_task(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", LINES + b"bad\n")
    reader = CorpusReader(
        task_of(tmp_path, CorpusPart(path=str(path), size=path.stat().st_size)), corpus_config(CorpusFormat.jsonl)
    )
    with pytest.raises(ValueError, match=rf"{path}, line 4: not JSON.*corpus\.on_error=skip leaves out"):
        list(reader.run(rank=1))


def test_web_archives_without_their_packages_are_refused_by_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    check_format(CorpusFormat.warc)
    monkeypatch.setattr("data_prep.reading.read_warc.find_spec", lambda name: None if name == "trafilatura" else name)
    check_format(CorpusFormat.jsonl)
    with pytest.raises(ValueError, match=r"needs trafilatura: pip install 'lambert-pretraining\[warc\]'"):
        check_format(CorpusFormat.warc)
