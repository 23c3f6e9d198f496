"""The pretraining loss of a micro-batch as sums, and the division by global counts that makes every split equal."""

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.data.batch import MicroBatch


class Logits(Protocol):
    """What a model returns: scores at masked positions and at `[CLS]`, in any floating dtype."""

    @property
    def mlm_logits(self) -> Tensor:
        """[masked, vocab_size]."""

    @property
    def nsp_logits(self) -> Tensor | None:
        """[instances, 2], or None without pairs."""


class BatchLosses(NamedTuple):
    """Sums over a micro-batch: scalars on the model's device, losses in fp32 nats, counts of right answers."""

    mlm_loss: Tensor
    mlm_correct: Tensor
    nsp_loss: Tensor
    nsp_correct: Tensor


def loss_sums(logits: Logits, batch: MicroBatch) -> BatchLosses:
    """Return the summed cross-entropies of masked tokens and of pairs, and how many are predicted right."""
    zero = logits.mlm_logits.new_zeros((), dtype=torch.float32)
    mlm_loss, mlm_correct = _sums(logits.mlm_logits, batch.masked_lm_ids)
    if logits.nsp_logits is None or batch.next_sentence_labels is None:
        return BatchLosses(mlm_loss, mlm_correct, zero, zero)
    return BatchLosses(mlm_loss, mlm_correct, *_sums(logits.nsp_logits, batch.next_sentence_labels))


def _sums(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    correct = (logits.detach().argmax(dim=-1) == labels).sum().float()
    return F.cross_entropy(logits.float(), labels, reduction="sum"), correct


def normalised_loss(sums: BatchLosses, *, masked_tokens: int, pairs: int) -> Tensor:
    """Return what to differentiate: Σ masked-token loss / global masked tokens + Σ pair loss / global pairs.

    Added up over the micro-batches of all ranks it is the loss of the whole batch, so that the gradient does not
    depend on how the batch was cut. A term without items is 0 (the counts are global: a rank's own may be 0).
    """
    return sums.mlm_loss / max(masked_tokens, 1) + sums.nsp_loss / max(pairs, 1)
