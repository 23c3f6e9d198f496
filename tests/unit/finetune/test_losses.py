"""The loss of a step does not depend on its micro-batches; weights count as torch's do."""

import pytest
import torch
import torch.nn.functional as F
from transformers import BertConfig, BertForQuestionAnswering, BertForSequenceClassification, BertForTokenClassification

from finetune.label_alignment import IGNORE_INDEX
from finetune.losses import binary_cross_entropy, cross_entropy, span_cross_entropy, squared_error

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 5, 3, generator=GENERATOR)
LABELS = torch.randint(3, (6, 5), generator=GENERATOR)
LABELS[0, 1:] = IGNORE_INDEX


@pytest.mark.parametrize(
    ("loss", "logits", "labels"),
    [
        (cross_entropy(None), LOGITS, LABELS),
        (cross_entropy([1.0, 2.0, 0.5]), LOGITS, LABELS),
        (cross_entropy(None), LOGITS[:, 0], LABELS[:, 0]),
        (binary_cross_entropy([1.0, 4.0, 1.0]), LOGITS[:, 0], LOGITS[:, 1].gt(0).float()),
        (squared_error(), LOGITS[:, 0, :1], LOGITS[:, 1, 0]),
    ],
)
def test_micro_batches_of_a_step_add_up_to_the_whole_batch(loss, logits, labels):
    count = labels.ne(IGNORE_INDEX).sum()
    whole = loss({"logits": logits}, labels)
    parts = [loss({"logits": logits[part]}, labels[part], count) for part in (slice(0, 1), slice(1, 6))]
    torch.testing.assert_close(sum(parts), whole)


def test_they_are_the_losses_of_torch():
    torch.testing.assert_close(
        cross_entropy(None)({"logits": LOGITS}, LABELS), F.cross_entropy(LOGITS.flatten(0, 1), LABELS.flatten())
    )
    targets = LOGITS[:, 1].gt(0).float()
    weights = torch.tensor([1.0, 4.0, 1.0])
    torch.testing.assert_close(
        binary_cross_entropy([1.0, 4.0, 1.0])({"logits": LOGITS[:, 0]}, targets),
        F.binary_cross_entropy_with_logits(LOGITS[:, 0], targets, pos_weight=weights),
    )
    torch.testing.assert_close(
        squared_error()({"logits": LOGITS[:, 0, :1]}, LOGITS[:, 1, 0]), F.mse_loss(LOGITS[:, 0, 0], LOGITS[:, 1, 0])
    )


def test_the_loss_of_spans_is_that_of_transformers_question_answering_whatever_the_micro_batches():
    model = BertForQuestionAnswering(
        BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=9)
    )
    ids, spans = torch.randint(9, (5, 7), generator=GENERATOR), torch.randint(7, (5, 2), generator=GENERATOR)
    outputs = model.eval()(ids, start_positions=spans[:, 0], end_positions=spans[:, 1])
    labels = torch.cat([spans, torch.full((5, 1), 7)], dim=1)
    torch.testing.assert_close(span_cross_entropy()(outputs, labels), outputs["loss"])
    names, count = ("start_logits", "end_logits"), torch.tensor(labels.numel())
    parts = [
        span_cross_entropy()({name: outputs[name][part] for name in names}, labels[part], count)
        for part in (slice(0, 4), slice(4, 5))
    ]
    torch.testing.assert_close(sum(parts), outputs["loss"])


def test_padding_takes_no_part_in_the_loss_of_spans():
    """With it the loss of a short window would depend on the long ones in its micro-batch."""
    labels = torch.tensor([[1, 2, 4]])
    logits = torch.randn(2, 1, 6, generator=GENERATOR)
    padded, alone = ({"start_logits": one[0], "end_logits": one[1]} for one in (logits, logits[..., :4]))
    torch.testing.assert_close(span_cross_entropy()(padded, labels), span_cross_entropy()(alone, labels))


def test_a_weight_of_two_is_a_label_seen_twice():
    logits, labels = torch.randn(3, 2, generator=GENERATOR), torch.tensor([0, 1, 1])
    weighted = cross_entropy([2.0, 1.0])({"logits": logits}, labels, torch.tensor(3))
    doubled = cross_entropy(None)({"logits": logits[[0, 0, 1, 2]]}, labels[[0, 0, 1, 2]], torch.tensor(3))
    torch.testing.assert_close(weighted, doubled)


@pytest.mark.parametrize("model", [BertForSequenceClassification, BertForTokenClassification])
def test_the_reason_for_losses_of_our_own_still_holds(model):
    """These take keyword arguments, so the Trainer believes that they divide by the step's labels; they do not."""
    import inspect

    parameters = inspect.signature(model.forward).parameters.values()
    assert any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    assert "num_items_in_batch" not in inspect.getsource(model.forward)
