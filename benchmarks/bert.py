"""BERTs with the vocabulary of google-research/bert under the trainer's own engine."""

import numpy as np
import torch

from conf.compose import compose
from pretrain.config import PretrainConfig
from pretrain.data.batch import MicroBatch, to_micro_batch
from pretrain.distributed import Ranks
from pretrain.engine import Engine, build_engine
from pretrain.model.bert import BertForPretraining
from pretrain.seeds import model_seed
from tests.shards import random_block

VOCAB_SIZE = 30_522
UPDATES = 7.0  # of a made-up optimizer state


def compose_config(*overrides: str) -> PretrainConfig:
    """Return a config of `python -m pretrain` for what reads no shards and leaves no run directory."""
    paths = ["shards_dir=unused", "run_dir=unused"]
    return compose("pretrain", PretrainConfig, [*paths, f"model.vocab_size={VOCAB_SIZE}", *overrides])


def build_bert(config: PretrainConfig, ranks: Ranks, dtype: torch.dtype = torch.float32) -> Engine:
    """Return the model under DeepSpeed. A `dtype` of the run's precision saves the memory of fp32 weights on the way.

    All ranks call it together.
    """
    torch.manual_seed(model_seed(config.seed))
    torch.set_default_dtype(dtype)
    try:
        model = BertForPretraining(config.model, config.kernels, with_pairs=True)
    finally:
        torch.set_default_dtype(torch.float32)
    return build_engine(model.to(ranks.device), config.engine, config.optimizer, config.kernels)


def draw_batch(ranks: Ranks, *, sequences: int, max_length: int) -> MicroBatch:
    """Return random instances of 6 to `max_length` tokens, other ones on every rank."""
    generator = np.random.default_rng(ranks.rank)
    block = random_block(generator, sequences=sequences, vocab_size=VOCAB_SIZE, max_length=max_length)
    return to_micro_batch(block).to(ranks.device)


def make_up_moments(engine: Engine) -> None:
    """Give the optimizer a state as after a few updates: moments that tell which parameter they are of."""
    for flat in engine.layout.flats:
        zeros = {kind: torch.zeros_like(flat) for kind in ("exp_avg", "exp_avg_sq")}
        engine.optimizer.state[flat] = {"step": torch.tensor(UPDATES), **zeros}
    for fragment in engine.layout.fragments:
        state = engine.optimizer.state[fragment.flat]
        fragment.cut(state["exp_avg"]).fill_(fragment.index)
        fragment.cut(state["exp_avg_sq"]).fill_(fragment.index + 0.5)


def require_made_up_moments(engine: Engine) -> None:
    """Raise RuntimeError unless every fragment has the moments of its parameter: else nothing was measured."""
    for fragment in engine.layout.fragments:
        state = engine.optimizer.state[fragment.flat]
        for kind, expected in (("exp_avg", fragment.index), ("exp_avg_sq", fragment.index + 0.5)):
            if not bool((fragment.cut(state[kind]) == expected).all()):
                raise RuntimeError(f"{kind} of {fragment.name} was not restored")
