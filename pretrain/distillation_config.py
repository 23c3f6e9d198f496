"""The config of distillation: the teacher, and how much of what it computes the student learns. Checked when built."""

import math
from dataclasses import dataclass
from itertools import pairwise

from conf.checks import require


@dataclass(kw_only=True, slots=True)
class DistillationConfig:
    """A null `teacher` leaves a training on the true tokens alone; the losses are in `pretrain.distillation.losses`."""

    teacher: str | None  # a model directory of transformers, as `python -m pretrain.export` writes it
    temperature: float  # divides the logits of both, at masked positions
    weight: float  # the teacher's share of the masked-token loss; the true tokens have the rest
    hidden_weight: float  # of the distance between hidden states; 0 compares none
    layers: list[list[int]] | None  # [student's, teacher's], counted from 1; null: the last with the last

    def __post_init__(self) -> None:
        require(0 < self.temperature < math.inf, "distillation.temperature", self.temperature, "above 0 and finite")
        require(0 <= self.weight <= 1, "distillation.weight", self.weight, "0 to 1")
        hidden = self.hidden_weight
        require(0 <= hidden < math.inf, "distillation.hidden_weight", hidden, "zero (off) or more, and finite")
        learns = self.weight > 0 or hidden > 0
        remedy = "name a model directory, or choose distillation=none"
        require(self.teacher is not None or not learns, "distillation.teacher", self.teacher, remedy)
        remedy = "nothing of the teacher is learned; choose distillation=soft_targets or hidden_states"
        require(self.teacher is None or learns, "distillation.weight", self.weight, remedy)
        if self.layers is not None:
            self._require_layers(self.layers)

    def _require_layers(self, layers: list[list[int]]) -> None:
        require(
            self.hidden_weight > 0, "distillation.layers", layers, "they need hidden_weight above 0, or leave it null"
        )
        pairs = bool(layers) and all(len(pair) == 2 and min(pair) >= 1 for pair in layers)
        ascending = pairs and all(one[0] < next_[0] and one[1] < next_[1] for one, next_ in pairwise(layers))
        remedy = "pairs [student's layer, teacher's layer], counted from 1, both ascending, as [[2,6],[4,12]]"
        require(ascending, "distillation.layers", layers, remedy)

    def layer_pairs(self, *, student: int, teacher: int) -> list[tuple[int, int]]:
        """Return the layers to compare, (student's, teacher's), in models of so many; none without `hidden_weight`.

        Raises ValueError for a layer that one of them does not have.
        """
        if self.hidden_weight == 0:
            return []
        pairs = [(student, teacher)] if self.layers is None else [(own, other) for own, other in self.layers]
        own, other = pairs[-1]
        remedy = f"the student has {student} layers, the teacher {teacher}; the last two are [{student},{teacher}]"
        require(own <= student and other <= teacher, "distillation.layers", self.layers, remedy)
        return pairs
