"""Which parameters learn, and how fast: frozen layers, and lower learning rates further from the head.

Layer-wise decay is the discriminative fine-tuning of Howard and Ruder 2018 (arXiv:1801.06146): head and pooler learn at
the full rate, the k-th layer from the top at rate · decay^k, embeddings one step below the lowest layer.
"""

import re
from collections import defaultdict
from typing import Any

from torch import nn

_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")
_EMBEDDINGS = re.compile(r"(?:^|\.)embeddings\.")


def layer_depths(model: Any) -> dict[str, int]:
    """Return how far each parameter is from the head: 0 for it and the pooler, k for the k-th layer from the top.

    Raises ValueError when the model's layers cannot be told apart, as where they share their weights.
    """
    layers: int = model.config.num_hidden_layers
    depths: dict[str, int] = {}
    found: set[int] = set()
    for name, _ in model.named_parameters():
        layer = _LAYER.search(name)
        if layer:
            found.add(int(layer[1]))
            depths[name] = layers - int(layer[1])
        else:
            depths[name] = layers + 1 if _EMBEDDINGS.search(name) else 0
    if found != set(range(layers)):
        raise ValueError(
            f"training.layer_decay and training.train_top_layers need a model of separate layers; "
            f"{type(model).__name__} has weights of {len(found)} of its {layers}: leave them at 1 and at null"
        )
    return depths


def freeze(model: Any, train_top_layers: int | None) -> None:
    """Let head, pooler and the top layers learn only; None lets everything learn, 0 freezes the whole encoder.

    Raises ValueError when the model has fewer layers.
    """
    if train_top_layers is None:
        return
    layers = model.config.num_hidden_layers
    if train_top_layers > layers:
        raise ValueError(f"training.train_top_layers={train_top_layers} is not valid: the model has {layers} layers")
    depths = layer_depths(model) if train_top_layers else defaultdict[str, int](lambda: 1)
    for name, parameter in model.named_parameters():
        if depths[name] > train_top_layers and not _is_head(model, name):
            parameter.requires_grad_(False)


def _is_head(model: Any, name: str) -> bool:
    return not name.startswith(f"{model.base_model_prefix}.") or ".pooler." in name


def parameter_groups(
    model: Any, *, learning_rate: float, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Return the optimizer's groups of all parameters that learn, by learning rate and weight decay.

    Matrices and embeddings decay, vectors (biases, norms) do not, as in google-research/bert's optimizer.
    """
    depths = defaultdict[str, int](int) if layer_decay == 1 else layer_depths(model)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[depths[name], parameter.ndim > 1].append(parameter)
    return [
        {
            "params": parameters,
            "lr": learning_rate * layer_decay**depth,
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (depth, decays), parameters in groups.items()
    ]
