"""Ranges on the command line -> one checked config after another, as Hydra's sweeper (a plugin) chooses them."""

from collections.abc import Callable, Sequence
from typing import Any

from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from conf.compose import Schema, checked, explain

HYDRA_KEYS = ("hydra.", "hydra/")
"""What begins so is for Hydra and its plugins."""


class _MistakeInTrial(BaseException):
    """Carries a user's mistake past Hydra, which makes a failed job of any Exception."""

    def __init__(self, mistake: Exception) -> None:
        self.mistake = mistake


def find_ranges(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments that set a key, and those that give one several values, as `choice(…)`.

    Raises ValueError for what is not of Hydra's grammar.
    """
    parser = OverridesParser.create()
    overrides = []
    for argument in arguments:
        try:
            overrides.append(parser.parse_override(argument))
        except HydraException as error:
            raise ValueError(
                f"{argument} is not key=value in Hydra's grammar: {' '.join(str(error).split())}"
            ) from error
    own = [override for override in overrides if not str(override.input_line).startswith(HYDRA_KEYS)]
    lines = {
        several: [str(one.input_line) for one in own if one.is_sweep_override() is several] for several in (False, True)
    }
    return lines[False], lines[True]


def sweep(
    entry: str,
    schema: type[Schema],
    arguments: Sequence[str],
    run: Callable[[int, list[str], Schema], float],
    *,
    package: str,
) -> None:
    """Have the sweeper that `package/ENTRY.yaml` names call `run(trial, chosen, config)` and look at what it returns.

    `chosen` are the keys of the ranges with the values of this trial, as on the command line. Raises ValueError as
    `conf.compose.compose`, and whatever a user's mistake in `run` raises (ValueError, OSError).
    """
    keys = {line.partition("=")[0] for line in find_ranges(arguments)[1]}

    def job(composed: DictConfig) -> float:
        hydra = HydraConfig.get()
        chosen = [line for line in hydra.overrides.task if line.partition("=")[0] in keys]
        try:
            return run(int(hydra.job.num), chosen, _build(composed))
        except (ValueError, OSError) as error:
            raise _MistakeInTrial(error) from error

    def _build(composed: Any) -> Schema:
        try:
            return checked(composed, schema)
        except OmegaConfBaseException as error:
            raise ValueError(explain(error, entry, schema)) from error

    try:
        with initialize_config_module(package, version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            hydra.multirun(entry, job, list(arguments), with_log_configuration=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error, entry, schema)) from error
    except _MistakeInTrial as carrier:
        raise carrier.mistake from None
