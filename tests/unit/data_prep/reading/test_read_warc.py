import gzip
import io
import logging
from pathlib import Path

import pytest

from data_prep.corpus import list_files
from data_prep.corpus_config import CorpusFormat
from tests.unit.data_prep.example_corpus import corpus_config, read, read_what_can_be, write

WARC = CorpusFormat.warc
PROSE = "The river froze early that winter, and nobody in the village could remember ice as thick as this one. "
Record = tuple[str, bytes, str, str]  # kind, payload, status, content type

pytest.importorskip("warcio", reason="warcio is not installed (the extra `warc`)")


def page(text: str) -> bytes:
    menu = "<nav><a href='/'>Home</a> <a href='/shop'>Shop</a></nav>"
    return f"<html><body>{menu}<article><p>{text}</p></article><footer>Cookies</footer></body></html>".encode()


def archive(*records: Record, compressed: bool = False) -> bytes:
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    output = io.BytesIO()
    writer = WARCWriter(output, gzip=compressed)
    writer.write_record(writer.create_warcinfo_record("a.warc", {"software": "test"}))
    for number, (kind, payload, status, content_type) in enumerate(records):
        headers = None
        if kind in ("response", "request"):
            headers = StatusAndHeaders(status, [("Content-Type", content_type)], protocol="HTTP/1.1")
        writer.write_record(
            writer.create_warc_record(
                f"http://example.org/{number}", kind, payload=io.BytesIO(payload), http_headers=headers,
                warc_content_type=None if headers else content_type,
            )
        )  # fmt: skip
    return output.getvalue()


def response(text: str, status: str = "200 OK", content_type: str = "text/html; charset=utf-8") -> Record:
    return "response", page(text), status, content_type


def conversion(data: bytes) -> Record:
    return "conversion", data, "", "text/plain"


@pytest.mark.parametrize("compressed", [False, True])
def test_pages_are_read_as_their_main_text_and_what_is_no_page_is_passed_over(tmp_path: Path, compressed: bool) -> None:
    data = archive(
        response(PROSE * 2 + "First."),
        ("request", b"", "GET / HTTP/1.1", ""),
        response(PROSE * 2 + "Gone.", status="404 Not Found"),
        response(PROSE * 2 + "Picture.", content_type="image/png"),
        ("metadata", b"fetchTimeMs: 12", "", "application/warc-fields"),
        response("", content_type="application/xhtml+xml"),
        response(PROSE * 2 + "Läst."),
        compressed=compressed,
    )
    path = write(tmp_path / ("a.warc.gz" if compressed else "a.warc"), data)
    found = read(path, WARC)
    assert [line for line, _ in found] == [2, 7, 8]
    assert found[0][1] == PROSE * 2 + "First."
    assert found[1][1] == ""
    assert found[2][1] == PROSE * 2 + "Läst."


def test_the_text_of_a_page_does_not_depend_on_pages_before_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.warc", archive(*[response(PROSE * 3)] * 5))
    assert [text for _, text in read(path, WARC)] == [(PROSE * 3).strip()] * 5


def test_wet_files_are_text_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a.warc.wet.gz", archive(conversion("één\ntwo".encode()), compressed=True))
    [file] = list_files(corpus_config(WARC, [str(tmp_path)]), [])
    assert file.path == str(path)
    assert read(path, WARC) == [(2, "één\ntwo")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (archive(conversion(b"good"), conversion(b"b\xffd")), r"a\.warc, record 3: byte 0xff is not UTF-8"),
        (archive(conversion(b"x" * 500)), r"a\.warc, record 2: a document of 500 bytes is above corpus\.max_doc"),
        (archive(response("x" * 500)), r"a\.warc, record 2: a document of .* bytes is above corpus\.max_document"),
        (archive(conversion(b"good"), conversion(b"cut"))[:-5], r"record 3: not a readable WARC record \(the file end"),
        (archive(conversion(b"good")) + b"junk\r\n" * 9, r"record 3: not a readable WARC record"),
        (archive(conversion(b"good")).replace(b"Content-Length: 4", b"Content-Length: 2") + archive(conversion(b"x")),
         r"record 2: not a readable WARC record \(it does not end where its Content-Length says\)"),
        (b"no archive at all", r"record 1: not a readable WARC record"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_an_error_with_file_record_and_remedy(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / "a.warc", data), WARC, max_document_bytes=300)


@pytest.mark.parametrize("lost", [1, 12, 40])
def test_a_cut_compressed_archive_keeps_the_records_before_the_cut(tmp_path: Path, lost: int) -> None:
    records = [conversion(b"record %d" % number) for number in range(3)]
    path = write(tmp_path / "a.warc.gz", archive(*records, compressed=True)[:-lost])
    with pytest.raises(ValueError, match=r"a\.warc\.gz: cannot be decompressed"):
        read(path, WARC)


def test_bad_records_are_left_out_and_the_others_read(tmp_path: Path) -> None:
    records = archive(conversion(b"one"), conversion(b"\xff"), conversion(b"x" * 400), conversion(b"two"))
    texts, skipped = read_what_can_be(write(tmp_path / "a.warc", records), WARC, max_document_bytes=300)
    assert texts == ["one", "two"]
    assert skipped == ["a.warc, record 3: not_utf8", "a.warc, record 4: too_large"]


def test_a_page_that_trafilatura_cannot_take_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(page: bytes, **options: object) -> str:
        raise RecursionError("too deep")

    monkeypatch.setattr("trafilatura.extract", fail)
    path = write(tmp_path / "a.warc", archive(response(PROSE)))
    with pytest.raises(ValueError, match=r"a\.warc, record 2: trafilatura cannot extract its text \(RecursionError"):
        read(path, WARC)


def test_a_whole_gzip_of_an_archive_is_read_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.warc.gz", gzip.compress(archive(conversion(b"one"), conversion(b"two"))))
    assert read(path, WARC) == [(2, "one"), (3, "two")]


def test_pages_without_text_are_no_news(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read(write(tmp_path / "a.warc", archive(response(""))), WARC)
    assert caplog.records == []
