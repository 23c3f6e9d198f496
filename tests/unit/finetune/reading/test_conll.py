"""CoNLL columns and JSON Lines give sentences; every mistake names file, line and remedy."""

from pathlib import Path

import pytest

from finetune.reading.conll import TaggedWords, read_tagged_words
from finetune.reading.faults import Faults
from tests.finetuning import task_config


def read(path: Path, *overrides: str, labelled: bool = True) -> list[TaggedWords]:
    config = task_config("tagging", *overrides)
    return list(read_tagged_words("train_file", path, config, Faults(skip=False), labelled=labelled))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_blank_lines_part_sentences_and_each_word_knows_its_line(tmp_path):
    path = write(tmp_path / "a.conll", "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VB O\n\n\n# NN O\n")
    first, second = read(path)
    assert (first.words, first.tags) == (["EU", "rejects"], ["B-ORG", "O"])
    assert [str(place) for place in first.places] == [f"{path}, line 3", f"{path}, line 4"]
    assert (second.words, str(second.places[0])) == (["#"], f"{path}, line 7")


def test_tabs_part_columns_where_there_are_any_and_comments_are_named_by_their_prefix(tmp_path):
    path = write(tmp_path / "a.iob2", "# sent_id = 1\r\n1\tNew York\tB-LOC\t-\r\n2\t#\tO\t-\r\n")
    keys = ["task.comment_prefix='# '", "task.word_column=1", "task.tag_column=2"]
    (sentence,) = read(path, *keys)
    assert (sentence.words, sentence.tags) == (["New York", "#"], ["B-LOC", "O"])


def test_json_lines_hold_lists(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]}\n')
    (sentence,) = read(path)
    assert (sentence.words, sentence.tags) == (["EU", "rejects"], ["B-ORG", "O"])
    (unlabelled,) = read(write(tmp_path / "b.jsonl", '{"tokens": ["EU"]}\n'), labelled=False)
    assert (unlabelled.words, unlabelled.tags) == (["EU"], None)


def test_words_alone_can_be_read(tmp_path):
    assert read(write(tmp_path / "a.txt", "EU\nrejects\n"), labelled=False)[0].words == ["EU", "rejects"]


@pytest.mark.parametrize(
    ("name", "text", "overrides", "message"),
    [
        ("a.conll", "EU O\nrejects\n", [], r"a\.conll, line 2: word and tag are the same column, .*it lacks a tag"),
        (
            "a.conll",
            "EU O\n",
            ["task.tag_column=3"],
            r"line 1: task\.tag_column=3 does not exist, .* 2 columns: \['EU'",
        ),
        ("a.conll", "a\tO\n \tO\n", [], r"a\.conll, line 2: word 2 of the sentence is empty; remove or mend it"),
        ("a.jsonl", '{"tokens": [], "tags": []}\n', [], r"a\.jsonl, line 1: the sentence has no words"),
        ("a.jsonl", '{"tokens": ["a"], "tags": ["O", "O"]}\n', [], r"line 1: 1 words but 2 tags; each word needs one"),
        ("a.jsonl", '{"tokens": "a b", "tags": ["O", "O"]}\n', [], r"line 1: field 'tokens' is not a list of strings"),
        (
            "a.jsonl",
            '{"words": ["a"], "tags": ["O"]}\n',
            [],
            r"task\.words_key=tokens is not a column .*'tags', 'words'",
        ),
        ("a.conll", "", [], r"train_file=.* is empty"),
    ],
)
def test_a_mistake_names_file_line_and_remedy(tmp_path, name, text, overrides, message):
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / name, text), *overrides)


@pytest.mark.parametrize(
    ("file", "overrides", "sentences"),
    [
        ("wnut17_ner_en/wnut17train.conll", [], 3394),
        ("wnut17_ner_en/emerging.dev.conll", [], 1009),
        ("wnut17_ner_en/emerging.test.annotated", [], 1287),
        (
            "uner_zh_gsdsimp/dev.iob2",
            ["task.comment_prefix='# '", "task.word_column=1", "task.tag_column=2"],
            500,
        ),
    ],
)
def test_real_files_have_as_many_sentences_as_their_source_says(shared_data, file, overrides, sentences):
    assert len(read(shared_data / "downstream" / file, *overrides)) == sentences
