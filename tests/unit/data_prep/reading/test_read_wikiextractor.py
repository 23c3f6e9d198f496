from pathlib import Path

import pytest

from data_prep.corpus_config import CorpusFormat
from tests.unit.data_prep.example_corpus import read, read_what_can_be, write

WIKI = CorpusFormat.wikiextractor
ARTICLES = """\
<doc id="12" url="https://en.wikipedia.org/wiki?curid=12" title="AT&amp;T "Labs"">
AT&T "Labs"

One &lt;b&gt; &amp;amp; two.

Three.

</doc>
<doc id="13" url="https://en.wikipedia.org/wiki?curid=13" title="Other">
The title is not repeated.
</doc>
"""


def test_articles_lose_markup_title_line_and_escapes(tmp_path: Path) -> None:
    assert read(write(tmp_path / "wiki_00", ARTICLES.encode()), WIKI) == [
        (1, "\nOne <b> &amp; two.\n\nThree.\n\n"),
        (9, "The title is not repeated.\n"),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (ARTICLES + '<doc id="14" title="Cut">\nCut\n\nshort', r"wiki_00, line 12: this <doc \.\.\.> has no </doc>"),
        ('<doc id="14" title="A">\nA\n' + ARTICLES, "wiki_00, line 1: this <doc"),
    ],
)
def test_an_article_without_an_end_is_named(tmp_path: Path, data: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / "wiki_00", data.encode()), WIKI)


def test_bad_articles_are_left_out_and_the_others_read(tmp_path: Path) -> None:
    long = '<doc title="L">\n' + "long line\n" * 50 + "</doc>\n"
    data = b'<doc title="A">\nA\n\xff\n</doc>\n' + long.encode() + b'<doc title="B">\ngood\n</doc>\n<doc title="C">\n'
    texts, skipped = read_what_can_be(write(tmp_path / "wiki_00", data), WIKI, max_document_bytes=100)
    assert texts == ["good\n"]
    assert skipped == ["wiki_00, line 1: not_utf8", "wiki_00, line 5: too_large", "wiki_00, line 60: no_end"]
