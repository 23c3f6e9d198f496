"""Weights per label: balanced ones are scikit-learn's, given ones are checked."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from finetune.class_weights import label_weights, positive_weights
from finetune.task_config import ClassWeights

LABELS = ["a", "b", "c"]


def test_balanced_weights_are_those_of_scikit_learn():
    gold = np.repeat([0, 1, 2], [5, 3, 2])
    ours = label_weights(ClassWeights.balanced, None, LABELS, [5, 3, 2])
    assert ours == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=gold).tolist())
    assert np.dot(ours, [5, 3, 2]) == pytest.approx(10)


def test_a_label_that_does_not_occur_has_a_finite_weight():
    assert label_weights(ClassWeights.balanced, None, LABELS, [4, 0, 2]) == [0.5, 1.0, 1.0]


def test_positive_weights_are_negatives_per_positive():
    assert positive_weights(ClassWeights.balanced, None, LABELS, [1, 5, 0], 10) == [9.0, 1.0, 1.0]


def test_given_weights_name_labels_that_exist():
    assert label_weights(ClassWeights.given, {"b": 3.0}, LABELS, [1, 1, 1]) == [1.0, 3.0, 1.0]
    assert label_weights(ClassWeights.none, None, LABELS, [1, 1, 1]) is None
    with pytest.raises(ValueError, match=r"label_weights names 'd', which is no label of train_file; it has a, b"):
        label_weights(ClassWeights.given, {"d": 3.0}, LABELS, [1, 1, 1])
