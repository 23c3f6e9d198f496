"""`torchrun … -m pretrain shards_dir=DIR run_dir=DIR …`: train, or go on with the training that `run_dir` holds."""

import gc
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import torch.distributed as dist

from conf.compose import to_dict
from data_prep.manifest import HELD_OUT
from pretrain.agreement import require_agreement, start_together
from pretrain.checkpoint.save import set_aside_after
from pretrain.checkpoint.saver import Saver
from pretrain.config import PretrainConfig
from pretrain.data.masks import dynamic_masking
from pretrain.data.reader import BlockReader
from pretrain.distributed import Ranks, leave_at_once, report_failure
from pretrain.engine import Engine
from pretrain.evaluate import evaluate
from pretrain.loop import Actions, Intervals, train
from pretrain.observation import Observation, start_recorder
from pretrain.phases import RunState, locate, total_steps
from pretrain.run_check import Checked, check
from pretrain.run_directory import prepare_run_directory
from pretrain.run_events import record_start
from pretrain.run_status import FailureStatus, RunStatus, Standing, describe_ending, ending, write_ending, write_status
from pretrain.start import describe_start, start_engine, start_training
from pretrain.step import run_steps
from pretrain.step_watch import StepWatch
from pretrain.stop import StopRequest
from pretrain.track.metrics import Record
from pretrain.track.recorder import Recorder
from pretrain.track.trust_ratios import trust_ratio_metrics

HELP, EXIT_USER_ERROR = "--help", 2


def main(arguments: Sequence[str]) -> int:
    """Run one process of a training; return its exit code.

    0 when the run is done, `stop_exit_code` when it was stopped before, 2 for a user's error. Any other error ends the
    process with 1.
    """
    if HELP in arguments:
        print(f"{__doc__}\nEvery key is in conf/pretrain.yaml, with presets beside it.")
        return 0
    stop = StopRequest()  # first of all: a launcher that tears the ranks down must not cut off the message of one
    try:
        config, ranks = start_together(arguments)
        exit_code = 0 if run(config, ranks, stop) else config.stop_exit_code
    except (ValueError, OSError) as error:
        report_failure(error)
        exit_code = EXIT_USER_ERROR
    except (Exception, KeyboardInterrupt) as error:
        leave_at_once(error)
    if dist.is_initialized():
        gc.collect()  # a group that an error's frames still hold has threads when the interpreter ends: it would abort
        dist.destroy_process_group()
    return exit_code


def run(config: PretrainConfig, ranks: Ranks, stop: StopRequest) -> bool:
    """Check everything that can be checked, then train. All ranks call it together.

    Returns whether there is nothing left to do for this command; else it was asked to stop, and goes on when it is
    given again.
    """
    run_dir, total = Path(config.run_dir), total_steps(config.phases)
    patience = config.engine.collective_timeout_seconds
    with StepWatch(rank=ranks.rank, step=0, timeout_seconds=patience):
        require_agreement(config, ranks)
        checked = check(config, ranks)
        step = checked.state.step
        if step >= last_step_of(config):
            if ranks.is_first:
                print(f"already done: {run_dir} stands at step {step:,} of {total:,}", file=sys.stderr)
            status = ending(step, total_steps=total, stop_after=config.stop_after, reasons=[])
            ranks.broadcast(lambda: write_status(run_dir, status))
            return True
        initial_weights = checked.described.get("initial_weights")
        ranks.broadcast(
            lambda: prepare_run_directory(
                run_dir, to_dict(config), checked.shards, checked.manifests, initial_weights=initial_weights
            )
        )
        hosts = ranks.gather(socket.gethostname())
        record_start(config, ranks, hosts, step=step, total_steps=total)
        ranks.broadcast(lambda: set_aside_after(run_dir / "checkpoints", step))
        running = RunStatus(state=Standing.running, step=step, total_steps=total)
        ranks.broadcast(lambda: write_status(run_dir, running))
    stop.after_minutes(config.max_minutes)
    watch = StepWatch(rank=ranks.rank, step=step, timeout_seconds=patience)
    with FailureStatus(run_dir, running, watch, is_first=ranks.is_first), watch:
        status = train_to_end(config, checked, ranks, hosts, stop, watch)
    ranks.broadcast(lambda: write_ending(run_dir, status))
    return status.state is Standing.done


def last_step_of(config: PretrainConfig) -> int:
    """Return the step after which this process leaves, unless it is asked to before."""
    total = total_steps(config.phases)
    return min(total, config.stop_after or total)


def train_to_end(
    config: PretrainConfig,
    checked: Checked,
    ranks: Ranks,
    hosts: Sequence[str],
    stop: StopRequest,
    watch: StepWatch,
) -> RunStatus:
    """Build the parts, hand them to the loop, and return how the run stands when it has ended or was stopped.

    `hosts` names each rank's host, on rank 0.
    """
    run_dir, state, total = Path(config.run_dir), checked.state, total_steps(config.phases)
    last_step = last_step_of(config)
    engine = start_engine(config, checked, ranks)
    training = start_training(config, checked, engine, ranks, stop)
    with (
        ranks.together(lambda: start_recorder(config, ranks, hosts, start_step=state.step)) as recorder,
        Observation(config, ranks, recorder, hosts) as observation,
        Saver(
            training.checkpoints,
            config.checkpoint,
            engine,
            ranks,
            run=checked.described,
            last_step=last_step,
            warn=recorder.note,
            saved=recorder.checkpoint,
        ) as saver,
    ):
        for note in (describe_start(engine, ranks, checked), *checked.notes):
            recorder.note(note)
        final = train(
            watch.follow(observation.follow(run_steps(training, state=state, last_step=last_step), start=state.step)),
            state=state,
            last_step=last_step,
            total_steps=total,
            every=intervals(config),
            do=actions(config, checked, engine, ranks, recorder, saver, observation),
        )
        reasons = ranks.gather(stop.reason)
        status = ending(final.step, total_steps=total, stop_after=config.stop_after, reasons=reasons)
        recorder.note(describe_ending(status, run_dir))
    return status


def intervals(config: PretrainConfig) -> Intervals:
    """Return how often things are done, in steps."""
    return Intervals(log=config.tracking.log_every, evaluate=config.evaluation.every, save=config.checkpoint.save_every)


def actions(
    config: PretrainConfig,
    checked: Checked,
    engine: Engine,
    ranks: Ranks,
    recorder: Recorder,
    saver: Saver,
    observation: Observation,
) -> Actions:
    """Return what the loop does after a step."""
    vocab_size = config.model.vocab_size
    assert vocab_size is not None
    held_out = [
        BlockReader(directory, manifest.splits.get(HELD_OUT, []), num_streams=1)
        for directory, manifest in zip(checked.shards, checked.manifests, strict=True)
    ]

    def evaluate_phase(state: RunState) -> Record:
        phase = locate(config.phases, state.step - 1).phase
        return evaluate(
            engine.module,
            held_out[phase],
            checked.manifests[phase].splits[HELD_OUT],
            ranks,
            max_sequences=config.evaluation.max_sequences,
            micro_batch_size=config.phases[phase].data.micro_batch_size,
            vocab_size=vocab_size,
            masking=dynamic_masking(checked.manifests[phase]),
        )

    return Actions(
        measure=lambda sums: observation.measure(sums) | trust_ratio_metrics(engine.trust_ratios()),
        evaluate=evaluate_phase,
        save=lambda state, last: saver.save(state, last=last),
        # Together: a full disk under rank 0 must not leave the others waiting.
        record=lambda record: ranks.together(lambda: recorder.record(record | saver.metrics())),
        progress=recorder.progress,
        note=recorder.note,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
