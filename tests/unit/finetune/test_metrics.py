"""Scores of small examples, by hand, and entities as conlleval counts them."""

import numpy as np
import pytest

from finetune.metrics import binary_scores, multi_class_scores, multi_label_scores, regression_scores, tagging_scores


def test_binary_scores_are_of_the_positive_label():
    gold, predicted = np.array([1, 1, 1, 0]), np.array([1, 0, 1, 1])
    scores = binary_scores(gold, predicted, positive=1)
    assert scores["accuracy"] == 0.5
    assert (scores["precision"], scores["recall"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert binary_scores(gold, predicted, positive=0)["f1"] == 0.0
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_multi_class_macro_f1_is_the_mean_over_labels_that_occur():
    scores = multi_class_scores(np.array([0, 0, 1, 5]), np.array([0, 1, 1, 5]))
    assert scores["accuracy"] == 0.75
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert multi_class_scores(np.array([0, 0]), np.array([1, 1]))["mcc"] == 0.0


def test_multi_label_scores():
    gold, predicted = np.array([[1, 0], [1, 1], [0, 0]]), np.array([[1, 0], [1, 0], [0, 1]])
    scores = multi_label_scores(gold, predicted)
    assert scores["micro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert scores["macro_f1"] == pytest.approx((1.0 + 0.0) / 2)
    assert scores["accuracy"] == pytest.approx(1 / 3)


def test_correlations_of_something_constant_are_zero():
    scores = regression_scores(np.array([1.0, 2.0, 4.0]), np.array([2.0, 3.0, 9.0]))
    assert scores["spearman"] == pytest.approx(1.0)
    assert scores["pearson"] == pytest.approx(np.corrcoef([1, 2, 4], [2, 3, 9])[0, 1])
    assert scores["mse"] == pytest.approx((1 + 1 + 25) / 3)
    assert regression_scores(np.array([1.0, 2.0]), np.array([3.0, 3.0]))["pearson"] == 0.0


def test_entities_count_whole_and_tags_one_by_one():
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC"]]
    predicted = [["B-PER", "O", "O", "B-LOC"], ["I-LOC", "B-LOC"]]  # I- after O begins an entity, as in conlleval
    scores = tagging_scores(gold, predicted)
    assert (scores["precision"], scores["recall"]) == (2 / 4, 2 / 3)
    assert scores["f1"] == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
    assert scores["accuracy"] == pytest.approx(4 / 6)


def test_no_entities_at_all_score_zero_without_a_warning(recwarn):
    assert tagging_scores([["O", "O"]], [["O", "O"]])["f1"] == 0.0
    assert not recwarn.list
