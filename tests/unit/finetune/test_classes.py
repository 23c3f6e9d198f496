import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import classification_report as seqeval_report
from sklearn.metrics import classification_report

from finetune.classes import MAX_TABLE, Confusion, class_scores, confusion, entity_classes, label_confusions
from finetune.confusion_plot import plot_confusion

LABELS = ["a", "b", "c"]
TAGS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=30))
def test_class_scores_are_those_of_scikit_learns_report(pairs):
    gold, predicted = map(list, zip(*pairs, strict=True))
    numbers = [np.array([LABELS.index(label) for label in row]) for row in (gold, predicted)]
    expected = classification_report(gold, predicted, labels=LABELS, output_dict=True, zero_division=0)
    for one in class_scores(*numbers, LABELS):
        of_class = expected[one.label]
        assert (one.precision, one.recall, one.f1, one.support) == (
            of_class["precision"],
            of_class["recall"],
            of_class["f1-score"],
            of_class["support"],
        )
    counts = confusion(gold, predicted, LABELS).counts
    for row, label in enumerate(LABELS):
        for column, other in enumerate(LABELS):
            assert counts[row][column] == pairs.count((label, other))


def test_entities_are_scored_whole_and_words_by_type():
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC"]]
    predicted = [["B-PER", "O", "O", "B-LOC"], ["O", "B-PER"]]
    classes, matrix = entity_classes(gold, predicted, TAGS)
    expected = seqeval_report(gold, predicted, output_dict=True, zero_division=0)
    assert [(one.label, one.precision, one.recall, one.f1, one.support) for one in classes] == [
        (kind, *(expected[kind][name] for name in ("precision", "recall", "f1-score", "support")))
        for kind in ("LOC", "PER")
    ]
    assert matrix == Confusion(["O", "LOC", "PER"], ["O", "LOC", "PER"], [[2, 0, 0], [0, 1, 1], [1, 0, 1]])


def test_a_type_that_never_occurs_has_no_scores_but_is_listed():
    classes, _ = entity_classes([["O", "B-LOC"]], [["O", "B-LOC"]], TAGS)
    assert [(one.label, one.f1, one.support) for one in classes] == [("LOC", 1.0, 1), ("PER", 0.0, 0)]
    classes, _ = entity_classes([["O"]], [["O"]], TAGS)
    assert [one.support for one in classes] == [0, 0]


def test_several_labels_are_found_missed_or_wrong():
    gold, predicted = np.array([[1, 1, 0], [1, 0, 0]]), np.array([[1, 0, 1], [1, 0, 0]])
    matrix = label_confusions(gold, predicted, LABELS)
    assert matrix == Confusion(LABELS, ["found", "missed", "wrong"], [[2, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert [one.recall for one in class_scores(gold, predicted, LABELS)] == [1.0, 0.0, 0.0]


def test_a_small_matrix_is_a_table_and_a_large_one_lists_its_confusions():
    small = confusion(["a", "b"], ["b", "b"], LABELS).text()
    assert small.splitlines()[1:] == ["   a  b  c", "a  0  1  0", "b  0  1  0", "c  0  0  0"]
    labels = [f"l{number}" for number in range(MAX_TABLE + 1)]
    large = confusion(["l3", "l3", "l5", "l7"], ["l4", "l4", "l6", "l7"], labels).text()
    assert large.splitlines() == ["most frequent confusions", "     2  l3 taken for l4", "     1  l5 taken for l6"]


@pytest.mark.parametrize("count", [2, 60])
def test_a_matrix_of_any_size_is_drawn(tmp_path, count):
    labels = [f"label {number}" for number in range(count)]
    plot_confusion(confusion(labels, labels[::-1], labels), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
