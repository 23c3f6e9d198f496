"""Small models of transformers with tokenizers, and shards made with them: what continued pretraining starts from."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from data_prep.manifest import read_manifest, write_manifest
from data_prep.special_tokens import WORDPIECE
from data_prep.tokenizer import describe_tokenizer, save_tokenizer, wordpiece_tokenizer
from pretrain.model.hf_weights import to_huggingface_config
from pretrain.model_config import ModelConfig
from tests.models import tiny_config
from tests.shards import write_shards

PIECES = ["##s", "##ed", "##volt", "##aik", "photo", "energy", "."]
VOCABULARY = [*WORDPIECE, *PIECES, *(f"w{number}" for number in range(64 - len(WORDPIECE) - len(PIECES)))]


def model_config(**changes: Any) -> ModelConfig:
    """Return a BERT of two layers over `VOCABULARY`."""
    return tiny_config(**({"vocab_size": len(VOCABULARY), "num_hidden_layers": 2, "initializer_range": 0.05} | changes))


def write_model(directory: Path, auto_class: Any, config: ModelConfig, *, seed: int = 0, **settings: Any) -> Any:
    """Save a model of `auto_class` with weights of its own and a tokenizer, as transformers does; return the model."""
    torch.manual_seed(seed)
    values = to_huggingface_config(config, 0) | settings
    model = auto_class.from_config(AutoConfig.for_model(**values)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    model.save_pretrained(directory)
    save_tokenizer(wordpiece_tokenizer(VOCABULARY, lowercase=True, source="the test"), directory)
    return model


def write_shards_of(directory: Path, *, new_words: Sequence[str] = (), **sizes: int) -> Path:
    """Write shards, of `sizes` as `write_shards` takes them, whose tokenizer has `new_words` after `VOCABULARY`."""
    vocabulary = [*VOCABULARY, *new_words]
    write_shards(directory, vocab_size=len(vocabulary), **sizes)
    tokenizer = wordpiece_tokenizer(vocabulary, lowercase=True, source="the test")
    save_tokenizer(tokenizer, directory / "tokenizer")
    write_manifest(directory, replace(read_manifest(directory), tokenizer=describe_tokenizer(tokenizer)))
    return directory
