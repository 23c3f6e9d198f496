"""What config.yaml of a run directory says, read back: the sections that later commands need."""

from collections.abc import Collection
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from conf.compose import Schema
from pretrain.model_config import ModelConfig
from pretrain.track.run_files import CONFIG_FILE

BEGINNING = ("init_from", "extend_vocabulary")
"""Keys of `model` in a run that say what its first weights were, and nothing of the model."""


def read_model(run_dir: Path) -> ModelConfig:
    """Return the model of a run. Raises ValueError naming the file when it cannot be read."""
    return read_section(run_dir, "model", ModelConfig, besides=BEGINNING)


def read_section(run_dir: Path, name: str, schema: type[Schema], besides: Collection[str] = ()) -> Schema:
    """Return one section, without its keys `besides`. Raises ValueError naming the file when it cannot be read."""
    path = run_dir / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"run_dir={run_dir} has no {CONFIG_FILE}: it is not a run directory of pretrain")
    try:
        content = OmegaConf.select(OmegaConf.load(path), name)
        for key in besides:
            content.pop(key, None)
        section = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), content))
    except (OmegaConfBaseException, AttributeError, TypeError, ValueError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} holds no {name} config of this release: {reason}") from error
    assert isinstance(section, schema)
    return section
