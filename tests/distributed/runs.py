"""Training runs that tests start on every rank of a worker group."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from conf.compose import compose
from pretrain.__main__ import run
from pretrain.config import PretrainConfig
from pretrain.distributed import Ranks
from pretrain.engine import Engine, build_engine
from pretrain.model.bert import BertForPretraining
from pretrain.seeds import model_seed
from pretrain.stop import StopRequest
from pretrain.track.metrics_file import read_metrics
from tests.distributed.workers import COLLECTIVE_TIMEOUT_SECONDS

TINY = [
    "model=tiny",
    "model.hidden_size=32",
    "model.intermediate_size=64",
    "model.max_position_embeddings=32",
    "data.global_batch_size=12",
    "data.micro_batch_size=2",
    "data.num_streams=6",
    "lr_schedule.warmup_steps=4",
    "optimizer.learning_rate=0.01",
    "max_steps=20",
    "checkpoint.save_every=100",
    "evaluation.every=0",
    "tracking=none",
    "tracking.log_every=1",
    "tracking.ranks_every=0",
]

# One layer's parameters, used three times in each pass.
ALBERT = ["model.architecture=albert", "model.embedding_size=8", "model.num_hidden_layers=3"]

# What a resumed run must repeat to the last bit.
EXACT = (
    "step",
    "epoch",
    "loss",
    "mlm_loss",
    "mlm_accuracy",
    "nsp_loss",
    "nsp_accuracy",
    "learning_rate",
    "grad_norm",
    "tokens_seen",
    "sequences_seen",
    "sequence_hash",
    "skipped_steps",
    "trust_ratio_median",
)

STAGES = [(stage, precision) for precision in ("fp32", "bf16") for stage in range(4)]


def cpu_multiplies_fp16() -> bool:
    """Return whether this CPU has fp16 products, without which the command refuses the precision."""
    return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())


def engine_overrides(stage: int, precision: str, *, offload: bool = False) -> list[str]:
    """Small thresholds at stage 3: a tiny model is to be cut, its matrices into several sub-groups at 4 ranks too."""
    return [
        f"engine.zero_stage={stage}",
        f"engine.precision={precision}",
        f"engine.offload_optimizer={offload}",
        "engine.sub_group_size=1500",
        "engine.param_persistence_threshold=0",
    ]


def tiny_config(shards_dir: Path, run_dir: Path, *overrides: str) -> PretrainConfig:
    patience = f"engine.collective_timeout_seconds={COLLECTIVE_TIMEOUT_SECONDS}"
    arguments = [f"shards_dir={shards_dir}", f"run_dir={run_dir}", *TINY, patience, *overrides]
    return compose("pretrain", PretrainConfig, arguments)


def tiny_engine(config: PretrainConfig, ranks: Ranks, vocab_size: int = 64) -> Engine:
    config.model.vocab_size = vocab_size
    torch.manual_seed(model_seed(config.seed))
    model = BertForPretraining(config.model, config.kernels, with_pairs=True)
    return build_engine(model.to(ranks.device), config.engine, config.optimizer, config.kernels)


def full_weights(engine: Engine, ranks: Ranks) -> dict[str, torch.Tensor]:
    """Return every fp32 parameter, put together from the fragments of all ranks."""
    weights = {name: torch.zeros(shape.numel()) for name, shape in engine.layout.shapes.items()}
    for fragment in engine.layout.fragments:
        part = fragment.cut(fragment.flat.detach())
        weights[fragment.name][fragment.start : fragment.start + fragment.numel] = part
    for name, shape in engine.layout.shapes.items():
        if engine.layout.sharded:
            ranks.sum(weights[name])
        weights[name] = weights[name].view(shape)
    return weights


def train_run(ranks: Ranks, shards_dir: Path, run_dir: Path, *overrides: str) -> None:
    """Do what the command does once its process group stands."""
    run(tiny_config(shards_dir, run_dir, *overrides), ranks, StopRequest())


def train_in_fp16(ranks: Ranks, shards: Path, run_dir: Path, *overrides: str) -> None:
    """Train also where the CPU has no avx512_fp16: on a CPU our activations are fp32, only weights and gradients fp16.

    DeepSpeed asks the accelerator first and would refuse; nothing else of it is changed.
    """
    from deepspeed.accelerator import get_accelerator

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(get_accelerator()), "is_fp16_supported", lambda self: True)
        train_run(ranks, shards, run_dir, *overrides)


def lines(run_dir: Path, keys: Sequence[str] = EXACT) -> list[tuple]:
    """Return what a run has logged, line by line."""
    return [tuple(record.get(key) for key in keys) for record in read_metrics(run_dir / "metrics.jsonl")]
