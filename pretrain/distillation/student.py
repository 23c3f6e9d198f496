"""A model whose hidden states are compared with a teacher's: brought to its width where that is another."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from pretrain.config import Kernels
from pretrain.data.batch import MicroBatch
from pretrain.distillation.directory import TeacherDirectory
from pretrain.model.bert import BertForPretraining, PretrainingLogits, initialize
from pretrain.model.kernels import Linear
from pretrain.model_config import ModelConfig

PROJECTIONS = "hidden_projections"


class Student(BertForPretraining):
    """A `BertForPretraining` that returns the hidden states of `layers` (counted from 1) in its teacher's width.

    Where the widths differ each of these layers has a projection (as TinyBERT, Jiao et al. 2020, arXiv:1909.10351,
    with a bias). They are trained and saved like all parameters, and no part of an export. The others are
    drawn as without a teacher: a run with one begins with the weights of a run without.
    """

    def __init__(
        self,
        config: ModelConfig,
        kernels: Kernels,
        *,
        with_pairs: bool,
        activation_checkpointing: bool,
        layers: Iterable[int],
        teacher_width: int,
    ) -> None:
        layers = tuple(layers)
        super().__init__(
            config,
            kernels,
            with_pairs=with_pairs,
            activation_checkpointing=activation_checkpointing,
            kept_layers=layers,
        )
        needed = layers if config.hidden_size != teacher_width else ()
        self.hidden_projections = nn.ModuleList(Linear(config.hidden_size, teacher_width) for _ in needed)
        self.hidden_projections.apply(lambda module: initialize(module, config.initializer_range))

    def forward(self, batch: MicroBatch) -> PretrainingLogits:
        """Return the scores and the hidden states, [tokens, teacher_width] each, of one micro-batch."""
        output = super().forward(batch)
        if not self.hidden_projections or output.hidden_states is None:
            return output
        projected = zip(self.hidden_projections, output.hidden_states, strict=True)
        return output._replace(hidden_states=tuple(project(hidden) for project, hidden in projected))


def without_projections(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the model that remains when the training is over."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith(f"{PROJECTIONS}.")}


def projection_elements(student: ModelConfig, teacher: TeacherDirectory | None) -> int:
    """Return how many parameters a student has besides those of its model."""
    if teacher is None or student.hidden_size == teacher.model.hidden_size:
        return 0
    return len(teacher.layers) * (student.hidden_size + 1) * teacher.model.hidden_size


def build_student(
    config: ModelConfig,
    kernels: Kernels,
    teacher: TeacherDirectory | None,
    *,
    with_pairs: bool,
    activation_checkpointing: bool,
) -> BertForPretraining:
    """Return the model to train: a `Student` where hidden states are compared, else a plain one."""
    if teacher is None or not teacher.layers:
        return BertForPretraining(
            config, kernels, with_pairs=with_pairs, activation_checkpointing=activation_checkpointing
        )
    return Student(
        config,
        kernels,
        with_pairs=with_pairs,
        activation_checkpointing=activation_checkpointing,
        layers=[own for own, _ in teacher.layers],
        teacher_width=teacher.model.hidden_size,
    )
