"""What our parts and settings are called in the files of transformers, one table per architecture."""

from dataclasses import dataclass
from typing import Any

from pretrain.model_config import Architecture, ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How one architecture's files are written; `#` in a module's name stands for the layer's number."""

    body: str  # what begins the names of the encoder; absent in a file of the bare encoder
    modules: dict[str, str]  # our module -> transformers'
    settings: tuple[str, ...]  # of ours that its config has, under the same name
    computed: dict[str, tuple[Any, ...]]  # values of its other settings that our model computes, the one we write first
    positions_follow_padding: bool = False  # position i is row pad_token_id + 1 + i of the table

    @property
    def tied(self) -> dict[str, str]:
        """Second names that transformers gives to one tensor."""
        head = self.modules["mlm_head"]
        return {
            f"{head}.decoder.weight": f"{self.modules['embeddings.word_embeddings']}.weight",
            f"{head}.decoder.bias": f"{head}.bias",
        }


def _embeddings(body: str) -> dict[str, str]:
    return {
        "embeddings.word_embeddings": f"{body}.embeddings.word_embeddings",
        "embeddings.token_type_embeddings": f"{body}.embeddings.token_type_embeddings",
        "embeddings.position_embeddings": f"{body}.embeddings.position_embeddings",
        "embeddings.layer_norm": f"{body}.embeddings.LayerNorm",
    }


def _encoder(body: str) -> dict[str, str]:
    """Return BERT's encoder, which RoBERTa has too; a pooler is read where a file has one."""
    layer = f"{body}.encoder.layer.#"
    return _embeddings(body) | {
        "layers.#.attention.query": f"{layer}.attention.self.query",
        "layers.#.attention.key": f"{layer}.attention.self.key",
        "layers.#.attention.value": f"{layer}.attention.self.value",
        "layers.#.attention.output": f"{layer}.attention.output.dense",
        "layers.#.attention_norm": f"{layer}.attention.output.LayerNorm",
        "layers.#.intermediate": f"{layer}.intermediate.dense",
        "layers.#.output": f"{layer}.output.dense",
        "layers.#.output_norm": f"{layer}.output.LayerNorm",
        "pooler": f"{body}.pooler.dense",
    }


SETTINGS = tuple(name for name in ModelConfig.__dataclass_fields__ if name != "architecture")
WITHOUT_EMBEDDING_SIZE = tuple(name for name in SETTINGS if name != "embedding_size")

EXACT_GELU = ("gelu", "gelu_python")
COMMON: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}

ALBERT_LAYER = "albert.encoder.albert_layer_groups.#.albert_layers.0"

NAMINGS = {
    Architecture.bert: Naming(
        body="bert",
        modules=_encoder("bert")
        | {
            "mlm_head.transform": "cls.predictions.transform.dense",
            "mlm_head.layer_norm": "cls.predictions.transform.LayerNorm",
            "mlm_head": "cls.predictions",
            "nsp_head": "cls.seq_relationship",
        },
        settings=WITHOUT_EMBEDDING_SIZE,
        computed={"hidden_act": EXACT_GELU} | COMMON,
    ),
    Architecture.roberta: Naming(
        body="roberta",
        modules=_encoder("roberta")
        | {
            "mlm_head.transform": "lm_head.dense",
            "mlm_head.layer_norm": "lm_head.layer_norm",
            "mlm_head": "lm_head",
        },
        settings=WITHOUT_EMBEDDING_SIZE,
        computed={"hidden_act": EXACT_GELU} | COMMON,
        positions_follow_padding=True,
    ),
    Architecture.albert: Naming(
        body="albert",
        modules=_embeddings("albert")
        | {
            "embeddings.projection": "albert.encoder.embedding_hidden_mapping_in",
            "layers.#.attention.query": f"{ALBERT_LAYER}.attention.query",
            "layers.#.attention.key": f"{ALBERT_LAYER}.attention.key",
            "layers.#.attention.value": f"{ALBERT_LAYER}.attention.value",
            "layers.#.attention.output": f"{ALBERT_LAYER}.attention.dense",
            "layers.#.attention_norm": f"{ALBERT_LAYER}.attention.LayerNorm",
            "layers.#.intermediate": f"{ALBERT_LAYER}.ffn",
            "layers.#.output": f"{ALBERT_LAYER}.ffn_output",
            "layers.#.output_norm": f"{ALBERT_LAYER}.full_layer_layer_norm",
            "pooler": "albert.pooler",
            "mlm_head.transform": "predictions.dense",
            "mlm_head.layer_norm": "predictions.LayerNorm",
            "mlm_head": "predictions",
            "nsp_head": "sop_classifier.classifier",
        },
        settings=SETTINGS,
        computed={
            "hidden_act": ("gelu_new", "gelu_pytorch_tanh"),
            "num_hidden_groups": (1,),
            "inner_group_num": (1,),
        }
        | COMMON,
    ),
}
"""What the architectures compute otherwise is in `pretrain.model_config.TRAITS`."""
