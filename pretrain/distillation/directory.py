"""The teacher's directory, held against student and shards before anything is written; and the model it holds."""

from dataclasses import dataclass
from pathlib import Path

import torch

from conf.checks import require
from data_prep.manifest import Manifest
from pretrain.checkpoint.fragments_file import hash_file
from pretrain.config import Kernels
from pretrain.data.reader import ShardDirectory
from pretrain.distillation_config import DistillationConfig
from pretrain.initial_weights import require_no_strangers
from pretrain.model.bert import BertForPretraining
from pretrain.model.hf_files import read_config, read_vocabulary, read_weights, weights_file
from pretrain.model.hf_weights import from_huggingface, from_huggingface_config
from pretrain.model.size import count_parameters
from pretrain.model_config import ModelConfig
from pretrain.preflight import Plan

FIELD = "distillation.teacher"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherDirectory:
    """A model that fits student and shards. `layers` are compared: (student's, teacher's), counted from 1."""

    path: Path
    model: ModelConfig
    pad_token_id: int
    sha256: str  # of the file of its weights
    layers: list[tuple[int, int]]

    def describe(self) -> str:
        """Return one line on the teacher."""
        size = count_parameters(self.model, with_pairs=False)
        compared = ", ".join(f"{own} with {other}" for own, other in self.layers)
        return (
            f"teacher: {self.path}, {self.model.num_hidden_layers} layers of {self.model.hidden_size}, "
            f"{size / 1e6:.1f} M parameters, whole on every rank" + (f"; compares layers {compared}" * bool(compared))
        )


def find_teacher(
    config: DistillationConfig, plan: Plan, shards: ShardDirectory, manifest: Manifest, *, max_seq_length: int
) -> TeacherDirectory | None:
    """Return the teacher of a run, None without one; its weights are read once, to see that they can be.

    `max_seq_length` is that of all phases. Raises ValueError when the directory is no model of ours, has another
    vocabulary than the shards, or cannot take their sequences.
    """
    if config.teacher is None:
        return None
    path = Path(config.teacher)
    values = read_config(path, FIELD)
    try:
        model = from_huggingface_config(values)
    except ValueError as error:
        raise ValueError(f"{FIELD}={config.teacher!r} is not valid: {error}") from error
    _require_same_vocabulary(path, model, shards, manifest)
    longest, types = model.max_position_embeddings, model.type_vocab_size
    remedy = f"its model has {longest} positions, and the shards have sequences of up to {max_seq_length} tokens"
    require(max_seq_length <= longest, FIELD, config.teacher, remedy)
    remedy = "its model has one token type, and the shards have pairs: prepare with pairs.kind=none"
    require(types >= 2 or not plan.with_pairs, FIELD, config.teacher, remedy)
    found = TeacherDirectory(
        path=path,
        model=model,
        pad_token_id=values.get("pad_token_id") or 0,
        sha256=hash_file(weights_file(path)),
        layers=config.layer_pairs(student=plan.model.num_hidden_layers, teacher=model.num_hidden_layers),
    )
    read_model(found, Kernels.torch)
    return found


def _require_same_vocabulary(path: Path, model: ModelConfig, shards: ShardDirectory, manifest: Manifest) -> None:
    """Raise ValueError unless every id means the same to teacher and shards: their distributions are over the ids."""
    remedy = (
        f"prepare the shards with its vocabulary (tokenizer.vocab_file in {path}), or take a teacher that was trained "
        "on these shards"
    )
    theirs, _ = read_vocabulary(path, FIELD)
    ours = shards.read_tokenizer(manifest).get_vocab()
    different = theirs.items() ^ ours.items()
    if different:
        number = min(number for _, number in different)
        there, here = ({number: token for token, number in known.items()} for known in (theirs, ours))
        ids = len({number for _, number in different})
        named = f"id {number} is {there.get(number)!r} there and {here.get(number)!r} in {shards.url}"
        require(False, FIELD, str(path), f"of its ids {ids:,} mean something else in the shards: {named}; {remedy}")
    wanted = manifest.tokenizer.vocab_size
    remedy = f"its model has {model.vocab_size} ids, its tokenizer and the shards have {wanted}: save it after "
    remedy += f"resize_token_embeddings({wanted}) of transformers"
    require(model.vocab_size == wanted, FIELD, str(path), remedy)


def require_unchanged(teacher: TeacherDirectory) -> None:
    """Raise ValueError when this rank's file of weights is not the one that was found."""
    path = weights_file(teacher.path)
    remedy = f"{path.name} is not the one that rank 0 has found; let all ranks see the same directory"
    require(hash_file(path) == teacher.sha256, FIELD, str(teacher.path), remedy)


def read_model(teacher: TeacherDirectory, kernels: Kernels) -> BertForPretraining:
    """Return the model with its weights as they are stored, on the CPU and without a pair head, which nobody asks.

    Raises ValueError when the file lacks parameters (the masked-token head, in files of a bare encoder), and when it
    holds some that are not finite, of other shapes, or that no model of ours has.
    """
    path = weights_file(teacher.path)
    name = str(teacher.path)
    kept = [other for _, other in teacher.layers]
    with torch.device("meta"):  # neither memory nor random numbers for what is replaced at once
        model = BertForPretraining(teacher.model, kernels, with_pairs=False, kept_layers=kept)
    wanted = model.state_dict().keys()
    try:
        weights = from_huggingface(read_weights(path), teacher.model.architecture, teacher.pad_token_id)
        beyond = sorted(weights.keys() - wanted)
        require_no_strangers([key for key in beyond if not key.startswith(("pooler.", "nsp_head."))], path)
    except ValueError as error:
        raise ValueError(f"{FIELD}={name!r} is not valid: {error}") from error
    missing = sorted(wanted - weights.keys())
    remedy = (
        f"{path.name} lacks {', '.join(missing[:3])}: a teacher needs its masked-token head; name an export of a run"
    )
    require(not missing, FIELD, name, remedy)
    try:
        model.load_state_dict({key: weights[key] for key in wanted}, assign=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise ValueError(f"{FIELD}={name!r} is not valid: its config.json is of another model: {reason}") from error
    broken = [key for key, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    require(
        not broken, FIELD, name, f"{path.name} holds NaN or infinity in {', '.join(broken[:3])}; name another model"
    )
    return model
