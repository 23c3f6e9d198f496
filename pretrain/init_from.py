"""The config of a run: where `model.init_from` names a model, the keys of `model` are those of its config.json.

A run that has a checkpoint takes them from there and reads the directory no more.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from conf.checks import require
from conf.compose import compose, to_dict
from pretrain.checkpoint.save import COMPLETE_NAME, LATEST, newest_tag
from pretrain.config import PretrainConfig
from pretrain.initial_weights import read_model_config
from pretrain.model.hf_vocabulary import FIELD
from pretrain.saved_config import BEGINNING, read_model

OWN = tuple(f"model.{key}" for key in BEGINNING)
FREE = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")
"""Keys of `model` that weights do not depend on; what is given wins."""


def compose_run(arguments: Sequence[str]) -> PretrainConfig:
    """Return the config of a training for its command line.

    Raises ValueError naming a key of `model` that the user gives and the model of `model.init_from` has otherwise.
    """
    of_model = [text for text in arguments if _key(text).startswith("model.") and _key(text) not in OWN]
    config = compose("pretrain", PretrainConfig, [text for text in arguments if text not in of_model])
    directory = config.model.init_from
    if directory is None:
        return compose("pretrain", PretrainConfig, arguments) if of_model else config
    preset = next((text.partition("=")[2] for text in arguments if _key(text) == "model"), None)
    require(preset is None, "model", preset, f"leave it out: {FIELD}={directory} says what the model is")
    given = _typed(of_model)
    values = _saved_model(Path(config.run_dir))
    if values is None:
        values = to_dict(read_model_config(Path(directory))[0])
        _require_agreement(given, values, directory)
    taken = {key: value for key, value in values.items() if key not in given and key != "vocab_size"}
    written = [f"model.{key}={'null' if value is None else value}" for key, value in taken.items()]
    return compose("pretrain", PretrainConfig, [*arguments, *written])


def _typed(of_model: Sequence[str]) -> dict[str, Any]:
    """Return the keys of `model` on a command line with their values. Raises ValueError for what is no value."""
    given: dict[str, Any] = {}
    for text in of_model:
        try:
            typed = OmegaConf.from_dotlist([text.lstrip("+")])
            given |= {str(key): value for key, value in typed.get("model", {}).items()}
        except (OmegaConfBaseException, YAMLError) as error:
            raise ValueError(f"{text} is not valid: {' '.join(str(error).split())}") from error
    return given


def _key(argument: str) -> str:
    return argument.partition("=")[0].lstrip("+")


def _saved_model(run_dir: Path) -> dict[str, Any] | None:
    """Return the model of a run that has a checkpoint, by config.yaml; None for a run that has none yet.

    Every rank asks: a checkpoint's own account, which grows with the ranks, is not read for it.
    """
    return to_dict(read_model(run_dir)) if _has_checkpoint(run_dir / "checkpoints") else None


def _has_checkpoint(directory: Path) -> bool:
    """Return whether there is one; only where `latest` does not name it, as after a kill, the directory is listed."""
    latest = directory / LATEST
    if latest.is_file() and (directory / latest.read_text(encoding="utf-8").strip() / COMPLETE_NAME).is_file():
        return True
    return newest_tag(directory) is not None


def _require_agreement(given: Mapping[str, Any], values: Mapping[str, Any], directory: str) -> None:
    """Raise ValueError unless what is given is what the model has; it may have more positions, and other dropout."""
    for key in given.keys() & values.keys() - {*FREE, "vocab_size"}:
        value, theirs = given[key], values[key]
        if key == "max_position_embeddings":
            remedy = f"{directory}/config.json has {theirs} positions: leave the key out, or give more to extend them"
            require(isinstance(value, int) and value >= theirs, f"model.{key}", value, remedy)
        else:
            remedy = f"{directory}/config.json has {theirs!r}, and the weights are of that; leave the key out"
            require(value == theirs, f"model.{key}", value, remedy)
