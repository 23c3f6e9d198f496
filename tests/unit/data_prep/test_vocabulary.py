import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from data_prep import vocabulary as vocabulary_module
from data_prep.corpus import list_files
from data_prep.corpus_config import CorpusFormat
from data_prep.encoder import make_encoder
from data_prep.special_tokens import WORDPIECE
from data_prep.tokenizer import wordpiece_tokenizer
from data_prep.vocabulary import choose_alphabet, sample_texts, train_vocabulary
from tests.unit.data_prep.example_corpus import SKIP, corpus_config

TEXTS = [f"The {number} walkers walked, walking unaffably through Zürich; 你好 {number * 7}." for number in range(200)]

TRAIN_AND_PRINT = """
from tests.unit.data_prep.test_vocabulary import train
print("\\n".join(train()))
"""


def train(vocab_size: int = 200, lowercase: bool = True) -> list[str]:
    return train_vocabulary(TEXTS, vocab_size=vocab_size, lowercase=lowercase, on_read=lambda characters: None)


def test_every_process_trains_the_same_vocabulary() -> None:
    # tokenizers seeds its hash maps per process: within one, even the unsteady trainer can agree with itself.
    runs = [
        subprocess.run([sys.executable, "-c", TRAIN_AND_PRINT], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1] == "\n".join(train()) + "\n"


def test_the_vocabulary_has_special_tokens_first_and_covers_the_text() -> None:
    vocabulary = train()
    assert vocabulary[:5] == list(WORDPIECE)
    assert len(vocabulary) == len(set(vocabulary)) <= 200
    assert "walk" in vocabulary
    assert "walking" in vocabulary
    assert "##你" not in vocabulary, "a Chinese character is a word of its own"
    encoder = make_encoder(wordpiece_tokenizer(vocabulary, lowercase=True, source="test"))
    assert vocabulary.index("[UNK]") not in encoder.encode(TEXTS).token_ids


@pytest.mark.parametrize("vocab_size", [64, 100])
def test_the_size_is_an_upper_bound(vocab_size: int) -> None:
    assert len(train(vocab_size)) <= vocab_size


def test_a_cased_vocabulary_keeps_capitals() -> None:
    assert "T" in train(lowercase=False)
    assert "T" not in train(lowercase=True)


def test_the_alphabet_is_the_most_frequent_characters_and_ties_go_by_code_point() -> None:
    assert choose_alphabet(Counter({"b": 5, "a": 5, "c": 9, " ": 50, "z": 5}), 3) == ["a", "b", "c"]
    assert choose_alphabet(Counter({"a": 100_000, "x": 1}), 10) == ["a"]


def test_a_corpus_without_text_is_refused() -> None:
    with pytest.raises(ValueError, match="no text to train a vocabulary"):
        train_vocabulary([], vocab_size=100, lowercase=True, on_read=lambda characters: None)


def test_the_sample_is_bounded_and_spread_over_the_files(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.txt").write_text(f"{number}" * 1000)
    corpus = corpus_config(CorpusFormat.text, [str(tmp_path)])
    files = list_files(corpus, [])
    assert list(sample_texts(files, corpus, 500)) == [f"{number}" * 50 for number in range(10)]
    assert list(sample_texts(files, corpus, 10**6)) == [f"{number}" * 1000 for number in range(10)]


def test_the_sample_counts_bytes_and_cuts_no_character(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in ("你好你好", "ab", "你好")))
    corpus = corpus_config(CorpusFormat.jsonl, [str(tmp_path)])
    files = list_files(corpus, [])
    samples = {size: list(sample_texts(files, corpus, size)) for size in (7, 12, 13, 16)}
    assert samples == {7: ["你好"], 12: ["你好你好"], 13: ["你好你好", "a"], 16: ["你好你好", "ab"]}


def test_a_large_file_is_sampled_all_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary_module, "SAMPLED_PART_BYTES", 2000)
    lines = [f"number {number:04d}\n\n" for number in range(1000)]  # 13 bytes each, seven parts
    (tmp_path / "a.txt").write_text("".join(lines))
    corpus = corpus_config(CorpusFormat.text_blank_lines, [str(tmp_path)])
    numbers = [int(text.split()[1]) for text in sample_texts(list_files(corpus, []), corpus, 160)]
    assert len(numbers) == 14
    assert [number // 143 for number in numbers] == [part for part in range(7) for _ in range(2)]


def test_the_sample_leaves_out_what_cannot_be_read_only_if_asked_to(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\n{bad\n{"text": "better"}\n')
    corpus = corpus_config(CorpusFormat.jsonl, [str(tmp_path)], on_error=SKIP)
    assert list(sample_texts(list_files(corpus, []), corpus, 1000)) == ["good", "better"]
    corpus = corpus_config(CorpusFormat.jsonl, [str(tmp_path)])
    with pytest.raises(ValueError, match="line 2: not JSON"):
        list(sample_texts(list_files(corpus, []), corpus, 1000))
