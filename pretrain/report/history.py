"""The files of a run directory -> what a report says of it: its lives, its phases, how far it is."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pretrain.report.columns import MetricColumns
from pretrain.report.wording import counted
from pretrain.track.events import Event, EventKind, last_sign, read_events
from pretrain.track.metrics_file import METRICS_FILE
from pretrain.track.run_files import CONFIG_FILE, DATA_FILE, RUN_FILE, STATUS_FILE

RUNNING = "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One process group of a run, from its start to its end, kill, or last sign of life."""

    start: datetime
    end: datetime
    first_step: int  # it went on from here
    last_step: int
    world_size: int
    ending: str  # a state of status.json, or "killed"
    reason: str | None
    engine: str  # "8 × cuda on 2 hosts, bf16, ZeRO stage 1"

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseSpan:
    """The steps of a phase: those after `first_step`, up to `last_step`; tokens that one of them can hold."""

    name: str
    first_step: int
    last_step: int
    tokens_per_step: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A run as its files tell it. `status` is status.json, empty while there is none."""

    run_dir: Path
    run_id: str | None
    columns: MetricColumns
    config: dict[str, Any]
    status: dict[str, Any]
    phases: list[PhaseSpan]
    events: list[Event]
    lives: list[Life]
    last_sign: datetime | None
    checkpoint: str | None  # the newest one

    @property
    def step(self) -> int:
        """The newest step that is known of."""
        return max(self.columns.step, self.status.get("step", 0))

    @property
    def total_steps(self) -> int | None:
        """The steps of the whole run."""
        return self.phases[-1].last_step if self.phases else self.status.get("total_steps")

    @property
    def phase(self) -> int:
        """The number of the phase that the run is in."""
        over = [phase for phase in self.phases[:-1] if phase.last_step <= self.step]
        return len(over)


def read_history(run_dir: Path, columns: MetricColumns) -> History:
    """Read a run directory; `columns` takes up its new metrics. No file is written or locked, at any time of the run.

    Raises ValueError naming the directory when it is none of a run, or a file that cannot be read.
    """
    known = (METRICS_FILE, CONFIG_FILE, STATUS_FILE)
    if not any((run_dir / name).is_file() for name in known):
        raise ValueError(f"{run_dir} has none of {', '.join(known)}: it is not the run_dir of a training")
    columns.read_new()
    config, status = _read_config(run_dir / CONFIG_FILE), _read_json(run_dir / STATUS_FILE, {})
    events, seen = read_events(run_dir), last_sign(run_dir)
    latest = run_dir / "checkpoints" / "latest"
    return History(
        run_dir=run_dir,
        run_id=_read_json(run_dir / RUN_FILE, {}).get("run_id"),
        columns=columns,
        config=config,
        status=status,
        phases=phase_spans(config, _read_json(run_dir / DATA_FILE, [])),
        events=events,
        lives=lives(events, state=status.get("state", RUNNING), step=columns.step, last_sign=seen),
        last_sign=seen,
        checkpoint=latest.read_text(encoding="utf-8").strip() if latest.is_file() else None,
    )


def lives(events: Sequence[Event], *, state: str, step: int, last_sign: datetime | None) -> list[Life]:
    """Return the lives that `events` tell of. The last one, if it has no end, stands as the other arguments say."""
    found: list[Life] = []
    for event in events:
        if event.kind is EventKind.start:
            found.append(_born(event))
        elif event.kind in (EventKind.end, EventKind.killed) and found:
            found[-1] = _ended(found[-1], event)
    if found and found[-1].ending == RUNNING:
        alive = found[-1]
        end = max(alive.start, last_sign or alive.start)
        found[-1] = replace(alive, end=end, last_step=max(alive.first_step, step), ending=state)
    return found


def _born(event: Event) -> Life:
    values = event.values
    ranks = f"{values.get('world_size', 1)} × {values.get('device', '?')} on {counted(values.get('hosts', 1), 'host')}"
    return Life(
        start=event.time,
        end=event.time,
        first_step=values.get("step", 0),
        last_step=values.get("step", 0),
        world_size=values.get("world_size", 1),
        ending=RUNNING,
        reason=None,
        engine=f"{ranks}, {values.get('precision', '?')}, ZeRO stage {values.get('zero_stage', '?')}",
    )


def _ended(life: Life, event: Event) -> Life:
    killed = event.kind is EventKind.killed
    return replace(
        life,
        end=max(life.start, event.time),
        last_step=event.values.get("step", life.first_step),
        ending="killed" if killed else event.values.get("state", "?"),
        reason=event.values.get("reason"),
    )


def phase_spans(config: dict[str, Any], data: Sequence[dict[str, Any]]) -> list[PhaseSpan]:
    """Return where each phase of a resolved config lies; `data` is the content of data.json, one entry per phase."""
    phases = config.get("phases", [])
    ends = list(accumulate(phase["max_steps"] for phase in phases))
    return [
        PhaseSpan(
            name=str(phase["name"]),
            first_step=end - phase["max_steps"],
            last_step=end,
            tokens_per_step=_tokens_per_step(phase, data[index] if index < len(data) else {}),
        )
        for index, (phase, end) in enumerate(zip(phases, ends, strict=True))
    ]


def _tokens_per_step(phase: dict[str, Any], data: dict[str, Any]) -> int | None:
    length = data.get("data_prep", {}).get("sequence", {}).get("max_seq_length")
    return None if length is None else int(length) * int(phase["data"]["global_batch_size"])


def _read_config(path: Path) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else {}
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _read_json(path: Path, missing: Any) -> Any:
    """Return the content of a file that is replaced atomically. Raises ValueError naming it when it is no JSON."""
    if not path.is_file():
        return missing
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}; the next start of the run writes it anew") from error
