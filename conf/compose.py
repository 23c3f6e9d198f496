"""YAML of this package + a dataclass schema + the command line -> one checked dataclass, and fingerprints of it."""

import dataclasses
import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

Schema = TypeVar("Schema")


def compose(entry: str, schema: type[Schema], overrides: Sequence[str], *, package: str = "conf") -> Schema:
    """Return the config of one entry: `conf/ENTRY.yaml`, its groups, then the command line's `key=value` overrides.

    `package` is the folder of the YAML, where it is not `conf`: Hydra takes any key that has a group's name for a
    choice of that group, so entries that mean something else by `model` need groups of their own.

    Every key and type is checked against `schema`, and the dataclasses' own `__post_init__` checks run.
    Raises ValueError naming the key, the value and the remedy.
    """
    try:
        with initialize_config_module(package, version_base="1.3"):
            composed = hydra_compose(entry, list(overrides))
        return checked(composed, schema)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error, entry, schema)) from error


def checked(composed: Any, schema: type[Schema]) -> Schema:
    """Return what Hydra composed as the dataclass. Raises OmegaConf's errors, and the dataclass's own."""
    result = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), composed))
    assert isinstance(result, schema)
    return result


def quoted(value: object) -> str:
    """Return a value as a string in Hydra's grammar, where a bare path may not hold everything that a path can."""
    return QuotedString(text=str(value), quote=Quote.single).with_quotes()


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config dataclass as plain containers that JSON and YAML can hold; enums become their values."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, Enum):
            return value.value
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value

    plain_config = plain(config)
    assert isinstance(plain_config, dict)
    return plain_config


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{"a.b.0": value}` for nested dicts and lists: one dotted key per leaf, as on the command line."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        items = dict(enumerate(value)) if isinstance(value, list) else value
        if isinstance(items, dict) and items:
            flat |= flatten({str(k): v for k, v in items.items()}, f"{name}.")
        else:
            flat[name] = value
    return flat


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return the keys, sorted, that two flat mappings have with other values, or that only one of them has."""
    missing = object()
    return [key for key in sorted({*first, *second}) if first.get(key, missing) != second.get(key, missing)]


def fingerprint(config: Any) -> str:
    """Return the sha256 (hex) of a config dataclass or of plain containers, independent of key order."""
    plain = to_dict(config) if dataclasses.is_dataclass(config) else config
    return hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def explain(error: Exception, entry: str, schema: type[Any]) -> str:
    """Return one or two lines for a Hydra or OmegaConf error: its own words, and the nearest key that exists."""
    text = str(error)
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        text = f"{text.splitlines()[0]} {str(cause).splitlines()[0]}"
    lines = [line.strip() for line in text.splitlines()]
    words = " ".join(
        line for line in lines if line and not line.startswith(("full_key", "object_type", "reference_type"))
    )
    words = words.split("To append to your config use")[0].strip()
    full_key = getattr(error, "full_key", None)
    if isinstance(error, OmegaConfBaseException) and full_key and full_key not in words:
        words = f"{full_key}: {words}"
    wanted = re.search(r"[Kk]ey '([\w.]+)'|override '([\w.]+)'", words)
    name = next((group for group in wanted.groups() if group), "") if wanted else ""
    near = difflib.get_close_matches(name, schema_keys(schema), n=3, cutoff=0.6) if name else []
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"config of {entry}: {words}{hint}"


def schema_keys(schema: type[Any], prefix: str = "") -> list[str]:
    """Return every dotted key that a schema dataclass knows."""
    keys: list[str] = []
    for field in dataclasses.fields(schema):
        name = f"{prefix}{field.name}"
        keys.append(name)
        if dataclasses.is_dataclass(field.type):
            assert isinstance(field.type, type)
            keys += schema_keys(field.type, f"{name}.")
    return keys
