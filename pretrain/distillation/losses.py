"""What a student loses by differing from its teacher, as sums over a micro-batch; and the loss that is made of it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.distillation_config import DistillationConfig
from pretrain.model.bert import PretrainingLogits
from pretrain.objective import BatchLosses, normalised_loss


class DistillationLosses(NamedTuple):
    """Sums over a micro-batch: fp32 scalars on the model's device."""

    soft_loss: Tensor  # nats over masked tokens, times temperature²
    hidden_loss: Tensor  # cosine distances over tokens: of each, the mean over the compared layers


def distillation_sums(
    student: PretrainingLogits, teacher: PretrainingLogits, *, temperature: float
) -> DistillationLosses:
    """Return how far the student's scores and hidden states are from those of the teacher, for the same micro-batch.

    Both have hidden states of the same layers' pairs, of one width, or none.
    """
    soft_loss = soft_target_loss(student.mlm_logits, teacher.mlm_logits, temperature)
    if student.hidden_states is None or teacher.hidden_states is None:
        return DistillationLosses(soft_loss, torch.zeros_like(soft_loss))
    return DistillationLosses(soft_loss, hidden_state_loss(student.hidden_states, teacher.hidden_states))


def soft_target_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return temperature² Σ KL(teacher ‖ student) over rows of logits, [masked, vocab_size] both; fp32.

    Hinton et al. 2015 (arXiv:1503.02531), section 2: both softmaxes at the temperature T, and T² because the gradients
    shrink with it. It is their cross-entropy less the teacher's entropy, which has no gradient; 0 where both agree.
    """
    ours = F.log_softmax(student.float() / temperature, dim=-1)
    theirs = F.log_softmax(teacher.float() / temperature, dim=-1)
    return temperature**2 * F.kl_div(ours, theirs, reduction="sum", log_target=True)


def hidden_state_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return Σ over tokens of the mean over layers of 1 - cos(student, teacher), [tokens, width] each; fp32, 0 to 2.

    The cosine of DistilBERT (Sanh et al. 2019, arXiv:1910.01108), for the layer map of TinyBERT (Jiao et al. 2020,
    arXiv:1909.10351): its squared distance would grow with the teacher's width, and its weight with it.
    """
    pairs = zip(student, teacher, strict=True)
    distances = [(1 - F.cosine_similarity(own.float(), other.float(), dim=-1)).sum() for own, other in pairs]
    return torch.stack(distances).mean()


def distilled_loss(
    hard: BatchLosses,
    imitation: DistillationLosses,
    config: DistillationConfig,
    *,
    masked_tokens: int,
    pairs: int,
    tokens: int,
) -> Tensor:
    """Return what to differentiate, from sums and the global counts of the step:

        (1 - weight) MLM + weight soft targets + pairs + hidden_weight hidden states

    each divided by its own count: that of all masked tokens, of all pairs, of all tokens. Added up over the
    micro-batches of all ranks it is the loss of the whole batch, however it was cut.
    """
    weighted = hard._replace(mlm_loss=(1 - config.weight) * hard.mlm_loss)
    soft = config.weight * imitation.soft_loss / max(masked_tokens, 1)
    hidden = config.hidden_weight * imitation.hidden_loss / max(tokens, 1)
    return normalised_loss(weighted, masked_tokens=masked_tokens, pairs=pairs) + soft + hidden
