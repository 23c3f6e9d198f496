import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.corpus_config import CorpusFormat
from tests.unit.data_prep.example_corpus import read, read_what_can_be, write

CSV = CorpusFormat.csv
FIELDS = st.text(st.sampled_from('ab,"\n\r\t é'), max_size=12)


@given(st.lists(st.tuples(FIELDS, FIELDS), max_size=8), st.sampled_from([".csv", ".tsv"]))
def test_what_the_csv_module_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], suffix: str
) -> None:
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter="\t" if suffix == ".tsv" else ",")
    writer.writerows([("id", "body"), *rows])
    path = write(tmp_path_factory.mktemp("csv") / f"a{suffix}", written.getvalue().encode())
    assert [text for _, text in read(path, CSV, text_key="body")] == [body for _, body in rows]


def test_quoted_newlines_are_text_and_lines_are_those_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b'\xef\xbb\xbftext,n\r\n"two\r\nlines",1\r\n\r\nplain,2\r\n')
    assert read(path, CSV) == [(2, "two\r\nlines"), (5, "plain")]


def test_a_field_may_be_much_larger_than_the_csv_module_allows_by_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"text\n" + b"x" * 200_000 + b"\n")
    assert [len(text) for _, text in read(path, CSV)] == [200_000]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"id,body\n1,2\n", r"a\.csv: no column 'text', only 'id', 'body'; set corpus\.text_key"),
        (b"text,n\na,1\nx, y,2\n", r"a\.csv, line 3: 3 fields, but the first line names 2; quote"),
        (b"text,n\na,1\nalone\n", r"line 3: 1 fields"),
        (b'text,n\na,1\n"a\nb\xff",1\n', r"line 4: byte 0xff is not UTF-8"),
        (b"te\xffxt,n\n", r"line 1: byte 0xff is not UTF-8"),
        (b'text,n\na,1\n"never closed,1\nb,2\n', r"line 3: a row that begins here is not CSV \(unexpected end"),
        (b'text,n\na,1\n"a"b,1\n', r"line 3: a row that begins here is not CSV"),
        (b"text\n" + b"long" * 9, r"line 2: a row .* 36 bytes or more, above corpus\.max_document_bytes=20; close"),
        (
            b'text\n"' + b"long\n" * 9 + b'"\n',
            r"line 2: a row .* 21 bytes or more, above .*all that follows is left out",
        ),
    ],
)
def test_what_cannot_be_read_is_an_error_with_file_line_and_remedy(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / "a.csv", data), CSV, max_document_bytes=20)


def test_bad_rows_are_left_out_and_a_broken_one_ends_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b'text,n\ngood,1\nb,a,d\nb\xffd,2\ngood,3\n"broken,4\ngood,5\n')
    texts, skipped = read_what_can_be(path, CSV)
    assert texts == ["good", "good"]
    assert skipped == ["a.csv, line 3: bad_row", "a.csv, line 4: not_utf8", "a.csv, line 6: unreadable_file"]


def test_a_row_that_is_too_large_is_counted_as_such_and_ends_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b'text\nfirst\n"' + b"long\n" * 9 + b'"\nlast\n')
    assert read_what_can_be(path, CSV, max_document_bytes=20) == (["first"], ["a.csv, line 3: too_large"])
