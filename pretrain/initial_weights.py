"""The first weights of a run from a transformers directory: found and named before anything is built, then loaded."""

import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from pretrain.checkpoint.fragments_file import hash_file
from pretrain.config import Kernels
from pretrain.engine import Engine
from pretrain.model.bert import BertForPretraining
from pretrain.model.hf_files import read_config, read_weights, weights_file
from pretrain.model.hf_names import NAMINGS, Naming
from pretrain.model.hf_vocabulary import FIELD, Vocabulary, match_vocabulary
from pretrain.model.hf_weights import POSITIONS, from_huggingface, from_huggingface_config
from pretrain.model_config import ModelConfig, RunModelConfig

WORDS, WORD_BIAS = "embeddings.word_embeddings.weight", "mlm_head.bias"
HEADS = {"mlm_head": "masked-token head", "pooler": "pooler", "nsp_head": "pair head"}


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialWeights:
    """A file of weights, what has to be known to read it, and a line on what it has and has not."""

    path: Path
    sha256: str
    config: ModelConfig  # of the model in it
    pad_token_id: int
    vocabulary: Vocabulary
    shapes: dict[str, torch.Size]  # of the parameters that it gives
    note: str

    @property
    def record(self) -> dict[str, str]:
        """What stays on record of how a run began."""
        return {"weights_file": str(self.path), "sha256": self.sha256}


def find_initial_weights(
    model: RunModelConfig, tokenizer: Tokenizer, *, with_pairs: bool, shards: str
) -> InitialWeights:
    """Return what `model.init_from` has for `model`, whose vocabulary is that of the shards' `tokenizer`.

    The whole file is read once: for its hash, and to refuse what is not finite. Raises ValueError naming the file when
    it cannot be read or does not fit the config; only heads may be missing.
    """
    assert model.init_from is not None
    directory = Path(model.init_from)
    config, pad_token_id = read_model_config(directory)
    vocabulary = match_vocabulary(directory, tokenizer, shards=shards, extend=model.extend_vocabulary)
    path = weights_file(directory)
    with torch.device("meta"):
        empty = BertForPretraining(model, Kernels.torch, with_pairs=with_pairs)
    shapes = {name: parameter.shape for name, parameter in empty.named_parameters()}
    weights, unused = fit_weights(path, shapes, model, config, vocabulary, pad_token_id=pad_token_id)
    broken = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if broken:
        raise ValueError(
            f"{path}: {len(broken)} parameters hold NaN or infinity, {broken[0]} first; name another model"
        )
    note = _describe(model, vocabulary, config, shapes.keys() - weights.keys(), unused)
    return InitialWeights(
        path=path,
        sha256=hash_file(path),
        config=config,
        pad_token_id=pad_token_id,
        vocabulary=vocabulary,
        shapes={name: shapes[name] for name in weights},
        note=note,
    )


def read_model_config(directory: Path) -> tuple[ModelConfig, int]:
    """Return our config for that of a model directory, and its `pad_token_id`. Raises ValueError for what is none."""
    values = read_config(directory, FIELD)
    try:
        return from_huggingface_config(values), values.get("pad_token_id") or 0
    except ValueError as error:
        raise ValueError(f"{FIELD}={directory}: {error}") from error


def load_initial_weights(engine: Engine, initial: InitialWeights, model: ModelConfig) -> None:
    """Copy the weights into the fp32 parameters; those of heads that the file lacks stay as they were drawn.

    Each rank reads the file, of which only its own fragments take memory. `engine.refresh_weights()`, on all ranks,
    must follow. Raises ValueError when this host's file is not the one that was looked at before.
    """
    if not initial.path.is_file() or hash_file(initial.path) != initial.sha256:
        raise ValueError(
            f"{initial.path} on {socket.gethostname()} is not the file that rank 0 has there; copy the same model to "
            "every host, or name a folder that all of them share"
        )
    weights, _ = fit_weights(
        initial.path, initial.shapes, model, initial.config, initial.vocabulary, pad_token_id=initial.pad_token_id
    )
    with torch.no_grad():
        for fragment in engine.layout.fragments:
            if fragment.name in weights:
                whole = weights[fragment.name].reshape(-1)
                fragment.cut(fragment.flat).copy_(whole[fragment.start : fragment.start + fragment.numel])


def fit_weights(
    path: Path,
    shapes: Mapping[str, torch.Size],
    model: ModelConfig,
    config: ModelConfig,
    vocabulary: Vocabulary,
    *,
    pad_token_id: int,
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the file's tensors for the parameters of `model`, of these `shapes`, and which of its heads have no use.

    `config` is that of the file, whose shapes `model` has but for tokens and positions.
    Rows of tokens that the tokenizer does not have are cut off; those of new tokens are the mean of their pieces', and
    so are their biases. Positions beyond the file's repeat its table from the start, as Longformer's do (Beltagy et
    al. 2020, arXiv:2004.05150, section 5). Raises ValueError naming the file when a parameter is missing, but for whole
    heads, has another shape, or no place in our model.
    """
    known, unused = _without_foreign_heads(read_weights(path), NAMINGS[model.architecture])
    try:
        weights = from_huggingface(known, model.architecture, pad_token_id)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for name in (WORDS, WORD_BIAS):
        if name in weights:
            weights[name] = _rows_of(vocabulary, weights[name], path)
    if POSITIONS in weights:
        positions = torch.arange(model.max_position_embeddings) % config.max_position_embeddings
        _require_shape(POSITIONS, weights[POSITIONS], (config.max_position_embeddings, config.embedding_width), path)
        weights[POSITIONS] = weights[POSITIONS][positions]
    beyond = sorted(weights.keys() - shapes.keys())
    require_no_strangers([name for name in beyond if _head_of(name) not in HEADS], path)
    unused += sorted({HEADS[_head_of(name)] for name in beyond})
    fitting = {name: tensor for name, tensor in weights.items() if name in shapes}
    _require_complete(fitting, shapes, path)
    return fitting, unused


def _without_foreign_heads(tensors: Mapping[str, Tensor], naming: Naming) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors of the encoder and of pretraining heads, and the names of the other heads."""
    body = f"{naming.body}."
    if not any(name.startswith(body) for name in tensors):  # a bare encoder
        return dict(tensors), []
    modules = set(naming.modules.values())
    known = {
        name: tensor
        for name, tensor in tensors.items()
        if name.startswith(body) or name in naming.tied or name.rpartition(".")[0] in modules
    }
    return known, sorted({name.partition(".")[0] for name in tensors.keys() - known.keys()})


def _rows_of(vocabulary: Vocabulary, table: Tensor, path: Path) -> Tensor:
    """Return one row (or bias) for each token of the shards, those of new ones fp32 means."""
    if len(table) < vocabulary.num_old:
        raise ValueError(
            f"{path} has word embeddings for {len(table):,} tokens, and the tokenizer beside it has "
            f"{vocabulary.num_old:,}; resize them with transformers' resize_token_embeddings"
        )
    old = table[: vocabulary.num_old]
    if not vocabulary.pieces:
        return old
    old = old.float()
    means = [old[list(pieces)].mean(0, keepdim=True) for pieces in vocabulary.pieces]
    return torch.cat([old, *means])


def _head_of(name: str) -> str:
    return name.partition(".")[0]


def require_no_strangers(names: Sequence[str], path: Path) -> None:
    """Raise ValueError when a file has parameters, these, that the model of its config.json has no place for."""
    if names:
        raise ValueError(
            f"{path} has {len(names)} parameters that the model of config.json has not, {names[0]} first; the two "
            "files are not of one model: copy it again"
        )


def _require_complete(weights: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], path: Path) -> None:
    present = {_head_of(name) for name in weights}
    missing = [name for name in shapes if name not in weights and (_head_of(name) not in HEADS.keys() - present)]
    if missing:
        raise ValueError(
            f"{path} lacks {len(missing)} parameters of the model that config.json describes, {missing[0]} first; "
            "it is not of that config, or not complete: copy the model again"
        )
    for name, tensor in weights.items():
        _require_shape(name, tensor, tuple(shapes[name]), path)


def _require_shape(name: str, tensor: Tensor, shape: tuple[int, ...], path: Path) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(
            f"{path}: {name} is {list(tensor.shape)}, and {list(shape)} by config.json; the two files are not of one "
            "model: copy it again"
        )


def _describe(
    model: RunModelConfig, vocabulary: Vocabulary, config: ModelConfig, new: Collection[str], unused: list[str]
) -> str:
    """Return the line that a start prints: heads that are missing or have no use, and what was extended."""
    heads = [title for head, title in HEADS.items() if head in map(_head_of, new)]
    said = [f"not in it, so drawn from the seed: {', '.join(heads)}"] if heads else ["with all heads"]
    said += [f"left out of it: {', '.join(unused)}"] if unused else []
    positions, wanted = config.max_position_embeddings, model.max_position_embeddings
    said += [f"its {positions:,} positions repeated to {wanted:,}"] if wanted > positions else []
    spare = (config.vocab_size or 0) - vocabulary.num_old
    said += [f"{spare:,} rows of no token in its tokenizer left out"] if spare > 0 else []
    new_words = len(vocabulary.pieces)
    said += [f"{new_words:,} new words begin as the mean of their pieces"] if new_words else []
    return f"weights of {model.init_from}: {'; '.join(said)}"
