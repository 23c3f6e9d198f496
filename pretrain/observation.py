"""What is seen of a run from outside its steps: their speed, the ranks' own times, troubles, a trace; and by whom."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import torch

from conf.compose import to_dict
from pretrain.config import PretrainConfig
from pretrain.distributed import Ranks
from pretrain.phases import total_steps
from pretrain.step import StepResult
from pretrain.track.alerts import Alerts
from pretrain.track.metrics import Record, StepSums, step_metrics
from pretrain.track.peak import known_peak_tflops
from pretrain.track.profiling import profiled
from pretrain.track.provenance import describe_run
from pretrain.track.rank_times import RankTimes
from pretrain.track.recorder import Recorder, open_recorder


class Observation:
    """Follows the steps of a run; alerts come from rank 0. All ranks build it and use it together."""

    def __init__(self, config: PretrainConfig, ranks: Ranks, recorder: Recorder, hosts: Sequence[str]) -> None:
        self._config, self._ranks, self._recorder = config, ranks, recorder
        self._alerts = Alerts(recorder.alert, max_bad_steps=config.max_bad_steps) if ranks.is_first else None
        self._rank_times = RankTimes(
            config.tracking,
            ranks,
            hosts,
            zero_stage=config.engine.zero_stage,
            total_steps=total_steps(config.phases),
            tell=recorder.alert,
        )
        self._peak_tflops = config.tracking.peak_tflops or known_peak_tflops(
            device_name(ranks.device), config.engine.precision
        )
        self._stack = ExitStack()

    def follow(self, steps: Iterator[StepResult], *, start: int) -> Iterator[StepResult]:
        """Return `steps`, watched; `start` steps of the run are done already."""
        steps = profiled(
            steps,
            self._config.profile,
            self._ranks,
            run_dir=Path(self._config.run_dir),
            start_step=start,
            tell=self._recorder.note,
        )
        steps = self._rank_times.follow(steps)
        return steps if self._alerts is None else self._alerts.follow(steps)

    def measure(self, sums: StepSums) -> Record:
        """Return the metrics of a stretch of steps, the last of which has just been followed."""
        metrics = step_metrics(
            sums, model=self._config.model, num_devices=self._ranks.world_size, peak_tflops=self._peak_tflops
        )
        return metrics | self._rank_times.compare()

    def __enter__(self) -> "Observation":
        if self._alerts is not None:
            self._stack.enter_context(self._alerts)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()


def start_recorder(config: PretrainConfig, ranks: Ranks, hosts: Sequence[str], *, start_step: int) -> Recorder:
    """Return what this rank reports to; `hosts` are the ranks'. Raises ValueError when a tracker cannot start."""
    run_dir = Path(config.run_dir)
    described = describe_run(run_dir, hosts, device_name(ranks.device)) if ranks.is_first else {}
    return open_recorder(
        config.tracking,
        rank=ranks.rank,
        run_dir=run_dir,
        run_config=to_dict(config) | {"run": described},
        start_step=start_step,
        total_steps=total_steps(config.phases),
    )


def device_name(device: torch.device) -> str:
    """Return what the device calls itself, such as `NVIDIA H100 80GB HBM3`; `cpu` for a CPU."""
    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else device.type
