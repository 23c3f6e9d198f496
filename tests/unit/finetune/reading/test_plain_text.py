import io
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.reading.faults import Faults
from finetune.reading.plain_text import cut_text, read_plain_texts
from finetune.reading.tables import read_table
from finetune.reading.text_file import STANDARD_INPUT, read_lines


def test_lines_of_standard_input_are_texts_with_their_places(monkeypatch):
    data = "\ufeffone text\r\n另一个\n".encode()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    found = list(read_plain_texts("input", STANDARD_INPUT, Faults(skip=False)))
    assert [(str(place), text) for place, text in found] == [
        ("<standard input>, line 1", "one text"),
        ("<standard input>, line 2", "另一个"),
    ]


def test_an_empty_line_is_a_fault(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\n \ntwo\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.txt, line 2: the line is empty; remove it \(on_error=skip"):
        list(read_plain_texts("input", path, Faults(skip=False)))
    faults = Faults(skip=True)
    assert [text for _, text in read_plain_texts("input", path, faults)] == ["one", "two"]
    assert faults.summary().endswith(f"left out 1 examples of {path}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "input=.*a.txt is empty"),
        (b" \n\n", "is empty"),
        (b"a\n\xff\n", r"a\.txt, line 2: byte 0xff is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, data, message):
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        list(read_lines("input", tmp_path / "a.txt"))
    with pytest.raises(ValueError, match=r"input=.*b\.txt does not exist; name a file"):
        list(read_lines("input", tmp_path / "b.txt"))


def test_words_are_what_stands_between_blanks_and_punctuation_marks():
    words, spans = cut_text("Who saw  Anna's ship?", by_character=False)
    assert words == ["Who", "saw", "Anna", "'", "s", "ship", "?"]
    assert spans[2] == (9, 13)


def test_han_characters_are_words_if_asked_for():
    assert cut_text("我爱 BERT，北京", by_character=True)[0] == ["我", "爱", "BERT", "，", "北", "京"]
    assert cut_text("我爱 BERT，北京", by_character=False)[0] == ["我爱", "BERT", "，", "北京"]


@given(st.text(alphabet="ab é北京.,! 😀\t", max_size=30), st.booleans())
def test_words_stand_in_the_text_where_their_offsets_say(text, by_character):
    words, spans = cut_text(text, by_character=by_character)
    assert words == [text[start:end] for start, end in spans]
    assert "".join(words) == "".join(text.split())


@pytest.mark.parametrize(
    ("name", "line"), [("a.jsonl", '{{"text": "number {}"}}'), ("a.csv", "number {}"), ("a.txt", "{}")]
)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str, line: str):
    path = tmp_path / name
    rows = [line.format(number) for number in range(20_000)]
    path.write_text("\n".join([*(["text"] if name == "a.csv" else []), *rows, ""]), encoding="utf-8")
    del rows
    tracemalloc.start()
    if name == "a.txt":
        count = sum(1 for _ in read_plain_texts("input", path, Faults(skip=False)))
    else:
        count = sum(1 for _ in read_table("input", path, {"task.text_column": "text"}, Faults(skip=False)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_000
    assert peak < path.stat().st_size / 2  # bytes
