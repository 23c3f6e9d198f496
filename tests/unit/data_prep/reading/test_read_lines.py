import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.corpus import CorpusFile
from data_prep.corpus_config import CorpusFormat
from data_prep.corpus_parts import CorpusPart, cut_files
from data_prep.reading.lines import CHUNK_BYTES
from tests.unit.data_prep.example_corpus import read, read_what_can_be, write

LINES = b'{"text": "first", "id": 1}\n\n{"text": "second"}\n'

# Pieces that files of the three formats that can be cut may hold: whole documents, bad ones, and borders of all kinds.
PIECES = {
    CorpusFormat.jsonl: [b'{"text": "a"}', b'{"text": "much longer b"}', b"\n", b"\r\n", b" \n", b"not json", b"\xff",
                         b'{"text": 1}', b'{"body": ""}', b'{"text": "' + b"x" * 50 + b'"}', b"\0"],
    CorpusFormat.text_blank_lines: [b"a", b"more words", b"\n", b"\n\n", b" \t\n", b"\r\n", "\u3000\n".encode(),
                                    b"\xff", "\u00e9".encode(), b"x" * 50, b"\0", b"\x1c\n"],
    CorpusFormat.wikiextractor: [b'<doc id="1" title="A">\n', b"A\n", b"\n", b"text", b"</doc>\n", b"</doc>", b"\xff",
                                 b"<doc ", b"&lt;b&gt;\n", b"x" * 50],
}  # fmt: skip


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.txt", "één\n\ntwo".encode()), CorpusFormat.text) == [(1, "één\n\ntwo")]


def test_blank_lines_separate_documents_and_lines_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"\n\none\nmore\n \t\n\ntwo")
    assert read(path, CorpusFormat.text_blank_lines) == [(3, "one\nmore\n"), (7, "two")]


@pytest.mark.parametrize(
    ("data", "corpus_format", "message"),
    [
        (b"good\nb\xe9d\n", CorpusFormat.text, r"a\.txt, line 2: byte 0xe9 is not UTF-8; convert"),
        (b"good\n\ngood\nb\xe9d\n", CorpusFormat.text_blank_lines, r"a\.txt, line 4: byte 0xe9 is not UTF-8"),
        (LINES + b'{"text": "\xff"}\n', CorpusFormat.jsonl, r"a\.txt, line 4: byte 0xff is not UTF-8"),
        (LINES + b"{text: 1}\n", CorpusFormat.jsonl, r"a\.txt, line 4: not JSON"),
        (LINES + b"\0\0\0" + LINES, CorpusFormat.jsonl, r"a\.txt, line 4: not JSON"),
        (b'{"text": "\\ud800"}\n', CorpusFormat.jsonl, r"a\.txt, line 1: not JSON"),
        (LINES + b"[1]\n", CorpusFormat.jsonl, r"line 4: a JSON list, but each line must be an object"),
        (LINES + b'{"body": "x"}\n', CorpusFormat.jsonl, r"line 4: no field 'text', only 'body'; set corpus.text_key"),
        (LINES + b'{"text": null}\n', CorpusFormat.jsonl, r"line 4: field 'text' is NoneType, not a string"),
    ],
)
def test_what_cannot_be_read_is_an_error_with_file_line_and_remedy(
    tmp_path: Path, data: bytes, corpus_format: CorpusFormat, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"{message}.*corpus\.on_error=skip"):
        read(write(tmp_path / "a.txt", data), corpus_format)


@pytest.mark.parametrize(
    ("data", "corpus_format", "place", "size"),
    [
        (b"x" * 11, CorpusFormat.text, "line 1", 11),
        (b"short\n\n" + b"12345\n" * 4, CorpusFormat.text_blank_lines, "line 3", 24),
        (b"short\n\n" + b"x" * 30 + b"\nmore", CorpusFormat.text_blank_lines, "line 3", 35),
        (b"\n" + b"x" * CHUNK_BYTES + b"\n", CorpusFormat.jsonl, "line 2", CHUNK_BYTES + 1),
    ],
)
def test_a_document_above_the_limit_is_refused_with_its_size_and_the_key(
    tmp_path: Path, data: bytes, corpus_format: CorpusFormat, place: str, size: int
) -> None:
    path = write(tmp_path / "a.txt", data)
    with pytest.raises(ValueError, match=rf"{place}: .*{size:,} bytes is above corpus\.max_document_bytes=10;"):
        read(path, corpus_format, max_document_bytes=10)


def test_documents_as_large_as_the_limit_are_read(tmp_path: Path) -> None:
    line = b'{"text": "abc"}\n'
    assert read(write(tmp_path / "a.jsonl", line), CorpusFormat.jsonl, max_document_bytes=len(line)) == [(1, "abc")]
    assert read(write(tmp_path / "a.txt", b"abc"), CorpusFormat.text, max_document_bytes=3) == [(1, "abc")]
    two = b"abc\n\nabc\n"
    assert read(write(tmp_path / "b.txt", two), CorpusFormat.text_blank_lines, max_document_bytes=4) == [
        (1, "abc\n"), (3, "abc\n"),
    ]  # fmt: skip


def test_bad_documents_are_left_out_and_those_around_them_read(tmp_path: Path) -> None:
    good = json.dumps({"text": "good"}).encode()
    lines = [good, b"{bad", good, b'{"text": "\xff"}', b'{"body": ""}', good, b'{"text": ' + b"9" * 99 + b"}", good]
    path = write(tmp_path / "a.jsonl", b"\n".join(lines))
    texts, skipped = read_what_can_be(path, CorpusFormat.jsonl, max_document_bytes=80)
    assert texts == ["good"] * 4
    assert skipped == [
        "a.jsonl, line 2: not_json", "a.jsonl, line 4: not_utf8", "a.jsonl, line 5: no_text",
        "a.jsonl, line 7: too_large",
    ]  # fmt: skip


@settings(max_examples=300)
@given(st.data())
@pytest.mark.parametrize("corpus_format", list(PIECES))
def test_byte_ranges_read_one_by_one_are_the_file_read_once(
    tmp_path_factory: pytest.TempPathFactory, corpus_format: CorpusFormat, data: st.DataObject
) -> None:
    content = b"".join(data.draw(st.lists(st.sampled_from(PIECES[corpus_format]), max_size=25)))
    path = write(tmp_path_factory.mktemp("ranges") / "a", content)
    cuts = sorted({0, len(content), *data.draw(st.lists(st.integers(0, len(content)), max_size=6))})
    edges = list(pairwise(cuts)) or [(0, 0)]
    whole = read_what_can_be(path, corpus_format, max_document_bytes=40)
    texts: list[str] = []
    skipped: list[str] = []
    for start, stop in edges:
        part = CorpusPart(path=str(path), size=stop - start, start=start, stop=stop)
        some_texts, some_skipped = read_what_can_be(path, corpus_format, part, max_document_bytes=40)
        texts += some_texts
        skipped += some_skipped
    assert (texts, skipped) == whole


@pytest.mark.parametrize("corpus_format", list(PIECES))
def test_the_parts_of_a_large_file_hold_each_of_its_documents_once(tmp_path: Path, corpus_format: CorpusFormat) -> None:
    join = {
        CorpusFormat.jsonl: lambda number: json.dumps({"text": f"number {number}"}) + "\n",
        CorpusFormat.text_blank_lines: lambda number: f"number {number}\n\n",
        CorpusFormat.wikiextractor: lambda number: f'<doc id="{number}" title="T">\nT\n\nnumber {number}\n</doc>\n',
    }[corpus_format]
    path = write(tmp_path / "big", "".join(map(join, range(500))).encode())
    parts = cut_files([CorpusFile(path=str(path), size=path.stat().st_size, version="")], [corpus_format], 300)
    assert len(parts) > 10
    texts = [text.strip() for part in parts for text in read_what_can_be(path, corpus_format, part)[0]]
    assert texts == [f"number {number}" for number in range(500)]
