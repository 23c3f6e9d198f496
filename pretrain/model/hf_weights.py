"""Weights and settings of our model <-> those of transformers' classes: renaming, and RoBERTa's offset of positions."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pretrain.model.hf_names import NAMINGS, Naming
from pretrain.model_config import Architecture, ModelConfig

POSITIONS = "embeddings.position_embeddings.weight"


def to_huggingface(weights: Mapping[str, Tensor], architecture: Architecture, pad_token_id: int) -> dict[str, Tensor]:
    """Return the state dict that transformers loads strictly: our tensors renamed, tied ones under both names.

    Into `BertForPreTraining`, `AlbertForPreTraining` or `RobertaForMaskedLM`; into `BertForMaskedLM` or
    `AlbertForMaskedLM` when the model was trained without pairs. RoBERTa's positions get the `pad_token_id + 1` rows
    before them that its file has: the last is of padding, which no real token attends to, the others of nothing; all
    are zero, as fairseq's padding is. Raises ValueError naming parameters that the architecture does not have.
    """
    naming = NAMINGS[architecture]
    offset = _offset(naming, pad_token_id)
    if offset and POSITIONS in weights:
        positions = weights[POSITIONS]
        weights = {**weights, POSITIONS: torch.cat([positions.new_zeros(offset, positions.shape[1]), positions])}
    renamed = _rename(weights, naming.modules, architecture)
    return renamed | {second: renamed[first] for second, first in naming.tied.items() if first in renamed}


def from_huggingface(weights: Mapping[str, Tensor], architecture: Architecture, pad_token_id: int) -> dict[str, Tensor]:
    """Return our state dict for one of transformers' classes, with heads or bare: what a file lacks is lacking here.

    Takes old files too: `position_ids` buffers are left out, `gamma` and `beta` of norms renamed. The first
    `pad_token_id + 1` rows of RoBERTa's positions are cut off; a pooler is kept, for whoever wants it. Raises
    ValueError naming parameters that our model does not have, and when the decoder is not tied to the word embeddings.
    """
    naming = NAMINGS[architecture]
    modern = {
        name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): tensor
        for name, tensor in weights.items()
        if not name.endswith(("position_ids", "embeddings.token_type_ids"))
    }
    if not any(name.startswith(f"{naming.body}.") for name in modern):
        modern = {f"{naming.body}.{name}": tensor for name, tensor in modern.items()}
    for second, first in naming.tied.items():
        tied = modern.pop(second, None)
        if tied is None:
            continue
        if not torch.equal(tied, modern.setdefault(first, tied)):
            raise ValueError(f"{second} differs from {first}: our model has one tensor for both (tie_word_embeddings)")
    ours = _rename(modern, {theirs: ours for ours, theirs in naming.modules.items()}, architecture)
    offset = _offset(naming, pad_token_id)
    if offset and POSITIONS in ours:
        ours[POSITIONS] = ours[POSITIONS][offset:].clone()
    return ours


def _offset(naming: Naming, pad_token_id: int) -> int:
    return pad_token_id + 1 if naming.positions_follow_padding else 0


def _rename(weights: Mapping[str, Tensor], modules: Mapping[str, str], architecture: Architecture) -> dict[str, Tensor]:
    renamed, unknown = {}, []
    for name, tensor in weights.items():
        module, _, leaf = name.rpartition(".")
        number = re.search(r"\.(\d+)\.", module)
        pattern = module.replace(number[0], ".#.", 1) if number else module
        if pattern not in modules or leaf not in ("weight", "bias"):
            unknown.append(name)
            continue
        renamed[modules[pattern].replace("#", number[1] if number else "#") + f".{leaf}"] = tensor
    if unknown:
        raise ValueError(
            f"{len(unknown)} parameters have no place in our {architecture.value} with its pretraining heads: "
            f"{unknown[:5]}"
        )
    return renamed


def to_huggingface_config(config: ModelConfig, pad_token_id: int) -> dict[str, Any]:
    """Return the settings of the architecture's config class (`AutoConfig.for_model(**settings)`) for our model."""
    naming = NAMINGS[config.architecture]
    settings = {name: getattr(config, name) for name in naming.settings}
    settings["max_position_embeddings"] += _offset(naming, pad_token_id)
    hidden_act = naming.computed["hidden_act"][0]
    return settings | {
        "model_type": config.architecture.value,
        "hidden_act": hidden_act,
        "pad_token_id": pad_token_id,
    }


def from_huggingface_config(values: Mapping[str, Any]) -> ModelConfig:
    """Return our config for the content of a `config.json` of transformers.

    Raises ValueError naming settings that are missing, or that our model does not compute.
    """
    known = [architecture.value for architecture in Architecture]
    kind = values.get("model_type")
    if kind not in known:
        raise ValueError(f"config.json: model_type={kind!r} is not supported: our models are {', '.join(known)}")
    architecture = Architecture(kind)
    naming = NAMINGS[architecture]
    for name, supported in naming.computed.items():
        value = values.get(name, supported[0])
        if value not in supported:
            raise ValueError(
                f"config.json: {name}={value!r} is not supported: our {kind} computes {supported[0]!r} only"
            )
    needed = (*naming.settings, "pad_token_id") if naming.positions_follow_padding else naming.settings
    missing = [name for name in needed if values.get(name) is None]
    if missing:
        raise ValueError(f"config.json lacks {', '.join(missing)}; save it with transformers' save_pretrained")
    settings = {name: values[name] for name in naming.settings}
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(
                f"config.json: {name}={value!r} is not a number; save it with transformers' save_pretrained"
            )
    settings["max_position_embeddings"] -= _offset(naming, values.get("pad_token_id") or 0)
    return ModelConfig(**({"architecture": architecture, "embedding_size": None} | settings))
