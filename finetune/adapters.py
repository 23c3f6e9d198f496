"""LoRA and AdaLoRA by peft: a model whose encoder is frozen but for low-rank updates, and back to a plain model."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import AdaLoraConfig, LoraConfig, PeftConfig, PeftModel, PeftType, get_peft_model
from torch import Tensor, nn
from transformers import TrainerCallback

from finetune.adapter_config import AdapterConfig, AdapterKind

ADAPTER_DIR = "adapter"
QUERY_AND_VALUE = ("query", "value")
"""The matrices that the LoRA paper adapts (section 4.2), by their names in BERT, RoBERTa and ALBERT."""

NAME = "default"
"""What peft calls an adapter that nobody named."""


def add_adapter(model: Any, config: AdapterConfig, total_steps: int) -> Any:
    """Return the model as peft's, with low-rank updates that learn, and head and pooler that learn whole.

    torch's random state decides the new weights. Raises ValueError when the model has no matrix of these names.
    """
    targets = list(config.target_modules or QUERY_AND_VALUE)
    encoder = getattr(model, model.base_model_prefix)
    matrices = {name.rpartition(".")[2] for name, part in encoder.named_modules() if isinstance(part, nn.Linear)}
    unknown = sorted(set(targets) - matrices)
    if unknown:
        raise ValueError(
            f"adapter.target_modules names {unknown[0]!r}, which {type(model).__name__} does not have; its matrices "
            f"are {', '.join(sorted(matrices))}"
        )
    shared: dict[str, Any] = {
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": targets,
        "modules_to_save": _whole_modules(model),
    }
    if config.kind is AdapterKind.lora:
        return _wrap(model, LoraConfig(r=config.rank, **shared))
    schedule: dict[str, Any] = {
        "total_step": total_steps,
        "tinit": int(config.warmup_ratio * total_steps),
        "tfinal": int(config.final_ratio * total_steps),
        "deltaT": 1,
    }
    first = config.initial_rank or math.ceil(1.5 * config.rank)  # as the paper's section 4
    return _wrap(model, AdaLoraConfig(init_r=first, target_r=config.rank, **schedule, **shared))


def _wrap(model: Any, config: PeftConfig) -> Any:
    with warnings.catch_warnings(category=FutureWarning, action="ignore"):  # peft 0.21 asks transformers by an old name
        return get_peft_model(model, config)


def plain_model(model: Any) -> Any:
    """Return the model of transformers that peft's is made of; the model itself where there is no adapter."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def count_parameters(model: Any) -> int:
    """Return how many parameters there are, without the head that peft keeps as it was before the training."""
    return sum(one.numel() for name, one in model.named_parameters() if ".original_module." not in name)


def is_adalora(model: Any) -> bool:
    """Return whether a model has an adapter whose ranks move while it learns."""
    return getattr(model, "peft_type", None) is PeftType.ADALORA


def _whole_modules(model: Any) -> list[str]:
    """Return the names of what is not the encoder: the head, and a pooler, which may be new like the head."""
    head = [name for name, part in model.named_children() if any(True for _ in part.parameters())]
    encoder = getattr(model, model.base_model_prefix)
    poolers = ["pooler"] if getattr(encoder, "pooler", None) is not None else []
    return [name for name in head if name != model.base_model_prefix] + poolers


class AdaLora(TrainerCallback):
    """What AdaLoRA does in a step besides learning: it keeps P and Q of an update PΛQ orthogonal, and moves ranks."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Add the gradient of the regulariser (equation 4 of the paper): once per step, however it is cut.

        Clipping was before, of the gradient that the examples give.
        """
        matrices = _matrices(self.model)
        penalty = self.model.peft_config[NAME].orth_reg_weight * orthogonality(matrices)
        for matrix, gradient in zip(matrices, torch.autograd.grad(penalty, list(matrices)), strict=True):
            matrix.grad = gradient if matrix.grad is None else matrix.grad + gradient

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Update sensitivities and masks; `state.global_step` counts the steps before this one."""
        self.model.base_model.update_and_allocate(state.global_step)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """At the end, take the ranks of the best checkpoint, whose weights the Trainer loads next.

        peft 0.21 cuts the weights that it saves to the ranks of that moment, but reads them by those in memory.
        """
        best = state.best_model_checkpoint
        if best is not None and (control.should_training_stop or state.global_step >= state.max_steps):
            self.model.peft_config[NAME].rank_pattern = PeftConfig.from_pretrained(best).rank_pattern


def _matrices(model: Any) -> dict[nn.Parameter, bool]:
    """Return P and Q of every update, and whether it is Q."""
    named = model.named_parameters()
    return {matrix: "lora_A" in name for name, matrix in named if "lora_A" in name or "lora_B" in name}


def orthogonality(matrices: Mapping[nn.Parameter, bool]) -> Tensor:
    """Return the mean Frobenius norm of QQᵀ - I and PᵀP - I, as peft has it; Q is [rank, in], P is [out, rank]."""
    norms = []
    for matrix, is_q in matrices.items():
        product = matrix @ matrix.T if is_q else matrix.T @ matrix
        norms.append(torch.linalg.matrix_norm(product - torch.eye(len(product), device=product.device)))
    return torch.stack(norms).mean()


def merge_adapter(model: Any, directory: Path, *, write: bool) -> Any:
    """Return the plain model of transformers with the updates added to its matrices; `write` saves them before."""
    if write:
        model.save_pretrained(directory)
    return model.merge_and_unload()
