"""A word's label stands at its first piece; long sentences are cut between words."""

from hypothesis import given
from hypothesis import strategies as st

from finetune.label_alignment import IGNORE_INDEX, align_labels, cut_words, first_pieces
from tests.finetuning import tokenizer


def test_the_first_piece_of_each_word_carries_its_label():
    encoded = tokenizer()(["the", "harbour", "saw", "\u200d", "it"], is_split_into_words=True)
    assert encoded.tokens() == ["[CLS]", "the", "har", "##bour", "saw", "it", "[SEP]"]
    aligned = align_labels(encoded.word_ids(), [10, 11, 12, 13, 14])
    assert aligned == [IGNORE_INDEX, 10, 11, IGNORE_INDEX, 12, 14, IGNORE_INDEX]
    assert first_pieces(encoded.word_ids()) == {0: 1, 1: 2, 2: 4, 4: 5}


@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=30), room=st.integers(5, 12))
def test_runs_hold_every_word_once_fit_and_are_as_long_as_can_be(counts, room):
    runs = list(cut_words(counts, room))
    assert [word for run in runs for word in run] == list(range(len(counts)))
    sizes = [sum(counts[word] for word in run) for run in runs]
    assert max(sizes) <= room
    for size, following in zip(sizes, runs[1:], strict=False):
        assert size + counts[following.start] > room
