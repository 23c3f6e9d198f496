"""Names and settings of our model <-> those of `transformers.BertForPreTraining`: renaming only, no tensor changes."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pretrain.config import ModelConfig

WORD_EMBEDDINGS = "bert.embeddings.word_embeddings.weight"
MLM_BIAS = "cls.predictions.bias"
TIED = {"cls.predictions.decoder.weight": WORD_EMBEDDINGS, "cls.predictions.decoder.bias": MLM_BIAS}
"""Second names that transformers gives to one tensor."""

MODULES = {
    "embeddings.word_embeddings": "bert.embeddings.word_embeddings",
    "embeddings.token_type_embeddings": "bert.embeddings.token_type_embeddings",
    "embeddings.position_embeddings": "bert.embeddings.position_embeddings",
    "embeddings.layer_norm": "bert.embeddings.LayerNorm",
    "layers.#.attention.query": "bert.encoder.layer.#.attention.self.query",
    "layers.#.attention.key": "bert.encoder.layer.#.attention.self.key",
    "layers.#.attention.value": "bert.encoder.layer.#.attention.self.value",
    "layers.#.attention.output": "bert.encoder.layer.#.attention.output.dense",
    "layers.#.attention_norm": "bert.encoder.layer.#.attention.output.LayerNorm",
    "layers.#.intermediate": "bert.encoder.layer.#.intermediate.dense",
    "layers.#.output": "bert.encoder.layer.#.output.dense",
    "layers.#.output_norm": "bert.encoder.layer.#.output.LayerNorm",
    "pooler": "bert.pooler.dense",
    "mlm_head.transform": "cls.predictions.transform.dense",
    "mlm_head.layer_norm": "cls.predictions.transform.LayerNorm",
    "mlm_head": "cls.predictions",
    "nsp_head": "cls.seq_relationship",
}
"""Our module -> transformers' module; # stands for the layer's number."""

SETTINGS = tuple(ModelConfig.__dataclass_fields__)
"""Every setting of ours is one of `transformers.BertConfig`, under the same name."""

SUPPORTED: dict[str, tuple[Any, ...]] = {
    "model_type": ("bert",),
    "hidden_act": ("gelu", "gelu_python"),  # both the exact one; gelu_new and others are not
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}
"""The values of a BertConfig's other settings that our model computes, the default first."""


def to_huggingface(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict that transformers loads strictly: the same tensors renamed, tied ones under both names.

    Into `BertForPreTraining`, or into `BertForMaskedLM` when the model was trained without pairs.
    Raises ValueError naming parameters that our BERT does not have.
    """
    renamed = _rename(weights, MODULES)
    return renamed | {second: renamed[first] for second, first in TIED.items() if first in renamed}


def from_huggingface(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our state dict for one of `BertForPreTraining` or `BertForMaskedLM`: the same tensors renamed.

    Takes old files too: `position_ids` buffers are left out, `gamma` and `beta` of norms renamed. Raises ValueError
    naming parameters that our BERT does not have, and when the decoder is not tied to the word embeddings.
    """
    modern = {
        name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): tensor
        for name, tensor in weights.items()
        if not name.endswith(("position_ids", "embeddings.token_type_ids"))
    }
    for second, first in TIED.items():
        tied = modern.pop(second, None)
        if tied is None:
            continue
        if not torch.equal(tied, modern.setdefault(first, tied)):
            raise ValueError(f"{second} differs from {first}: our BERT has one tensor for both (tie_word_embeddings)")
    return _rename(modern, {theirs: ours for ours, theirs in MODULES.items()})


def _rename(weights: Mapping[str, Tensor], modules: Mapping[str, str]) -> dict[str, Tensor]:
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
        raise ValueError(f"{len(unknown)} parameters have no place in a BERT with pretraining heads: {unknown[:5]}")
    return renamed


def to_bert_config(config: ModelConfig, pad_token_id: int) -> dict[str, Any]:
    """Return the keyword arguments of `transformers.BertConfig` for our model."""
    settings = {name: getattr(config, name) for name in SETTINGS}
    return settings | {"hidden_act": "gelu", "pad_token_id": pad_token_id}


def from_bert_config(values: Mapping[str, Any]) -> ModelConfig:
    """Return our config for the content of a `config.json` of transformers.

    Raises ValueError naming settings that are missing, or that our model does not compute.
    """
    for name, supported in SUPPORTED.items():
        value = values.get(name, supported[0])
        if value not in supported:
            raise ValueError(f"config.json: {name}={value!r} is not supported: our BERT computes {supported[0]!r} only")
    missing = [name for name in SETTINGS if name not in values]
    if missing:
        raise ValueError(f"config.json lacks {', '.join(missing)}; save it with transformers' save_pretrained")
    return ModelConfig(**{name: values[name] for name in SETTINGS})
