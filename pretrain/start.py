"""What a training works with: the model under DeepSpeed with its first weights, the data of every phase, a teacher."""

import os
from functools import partial
from pathlib import Path

import torch

from data_prep.manifest import TRAIN
from pretrain.checkpoint.restore import restore
from pretrain.config import PretrainConfig
from pretrain.data.masks import dynamic_masking
from pretrain.data.order import streams_of
from pretrain.data.reader import BlockReader
from pretrain.distillation.student import build_student
from pretrain.distillation.teacher import load_teacher
from pretrain.distributed import Ranks
from pretrain.engine import Engine, build_engine
from pretrain.initial_weights import load_initial_weights
from pretrain.run_check import Checked
from pretrain.seeds import model_seed
from pretrain.step import PhaseData, Training
from pretrain.stop import StopRequest


def start_engine(config: PretrainConfig, checked: Checked, ranks: Ranks) -> Engine:
    """Return the model under DeepSpeed, with the checkpoint's weights and optimizer state if there is one."""
    if config.engine.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.manual_seed(model_seed(config.seed))
    plan, checkpoint = checked.plan, checked.checkpoint
    model = ranks.together(
        lambda: build_student(
            plan.model,
            config.kernels,
            checked.teacher,
            with_pairs=plan.with_pairs,
            activation_checkpointing=config.engine.activation_checkpointing,
        )
    )
    engine = build_engine(model.to(ranks.device), config.engine, config.optimizer, config.kernels)
    if checkpoint is not None:
        ranks.together(lambda: restore(engine, checkpoint))
        engine.refresh_weights()
    elif checked.initial is not None:
        ranks.together(partial(load_initial_weights, engine, checked.initial, plan.model))
        engine.refresh_weights()
    return engine


def start_training(
    config: PretrainConfig, checked: Checked, engine: Engine, ranks: Ranks, stop: StopRequest
) -> Training:
    """Return what the steps work with."""
    precision = config.engine.precision
    return Training(
        engine=engine,
        phases=phase_data(config, checked, ranks),
        ranks=ranks,
        stop=stop,
        seed=config.seed,
        max_bad_steps=config.max_bad_steps,
        checkpoints=Path(config.run_dir) / "checkpoints",
        teacher=ranks.together(
            lambda: load_teacher(checked.teacher, config.distillation, config.kernels, precision, ranks.device)
        ),
    )


def phase_data(config: PretrainConfig, checked: Checked, ranks: Ranks) -> list[PhaseData]:
    """Return every phase with its order and a reader for this rank's streams."""
    phases = []
    for phase, order, directory, manifest in zip(
        config.phases, checked.plan.orders, checked.shards, checked.manifests, strict=True
    ):
        own_streams = streams_of(ranks.rank, world_size=ranks.world_size, num_streams=order.num_streams)
        reader = BlockReader(directory, manifest.splits[TRAIN], len(own_streams))
        phases.append(PhaseData(config=phase, order=order, reader=reader, masking=dynamic_masking(manifest)))
    return phases


def describe_start(engine: Engine, ranks: Ranks, checked: Checked) -> str:
    """Return one line on what starts."""
    parameters = sum(shape.numel() for shape in engine.layout.shapes.values())
    begin = "from scratch" if checked.initial is None else f"from {checked.initial.path.parent}"
    if checked.checkpoint is not None:
        begin = f"from {checked.checkpoint.directory.name}"
    return f"{parameters / 1e6:.1f} M parameters on {ranks.world_size} × {ranks.device.type}, {begin}"
