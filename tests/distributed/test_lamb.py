"""LAMB under ZeRO is LAMB: after many steps the weights are those of a float64 optimizer on one process."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pretrain.data.feed import feed_steps, prepare_step
from pretrain.distributed import Ranks
from pretrain.objective import loss_sums, normalised_loss
from pretrain.optim.lamb import Lamb
from pretrain.step import accumulate_gradients
from tests.distributed.runs import STAGES, engine_overrides, full_weights, tiny_config, tiny_engine
from tests.shards import order_and_reader, write_shards

STEPS, LEARNING_RATE, CLIP = 20, 0.01, 1.0
NO_DROPOUT = ["model.hidden_dropout_prob=0.0", "model.attention_probs_dropout_prob=0.0"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


def lamb_oracle(weight, gradient, moments, step, decay, lr=LEARNING_RATE, beta1=0.9, beta2=0.999, eps=1e-6):
    """One float64 update from the paper's algorithm 2 and NVIDIA's choices; `moments` is changed in place."""
    moments[0] = beta1 * moments[0] + (1 - beta1) * gradient
    moments[1] = beta2 * moments[1] + (1 - beta2) * gradient**2
    m, v = moments[0] / (1 - beta1**step), moments[1] / (1 - beta2**step)
    update = m / (v.sqrt() + eps) + decay * weight
    ratio = weight.norm() / update.norm() if decay and weight.norm() and update.norm() else 1.0
    return weight - lr * ratio * update


def step_feed(ranks: Ranks, shards: Path, micro_batch_size: int):
    order, reader = order_and_reader(shards)
    return feed_steps(order, reader, ranks, micro_batch_size=micro_batch_size, steps=range(STEPS))


def train_and_follow(ranks: Ranks, shards: Path, overrides: list[str], optimizer: str):
    """Train; feed the oracle the very gradients the optimizer got; return the largest relative distance per tensor."""
    config = tiny_config(shards, shards, *NO_DROPOUT, *overrides, f"optimizer={optimizer}")
    engine = tiny_engine(config, ranks)
    oracle = {name: weight.double() for name, weight in full_weights(engine, ranks).items()}
    moments = {name: [torch.zeros_like(weight), torch.zeros_like(weight)] for name, weight in oracle.items()}
    feed = step_feed(ranks, shards, micro_batch_size=1)
    seen: dict[str, torch.Tensor] = {}
    inner_step = engine.optimizer.step

    def spying_step(closure=None):
        for fragment in engine.layout.fragments:
            if fragment.flat.grad is not None and any(
                fragment.flat is tensor for group in engine.optimizer.param_groups for tensor in group["params"]
            ):
                whole = seen.setdefault(fragment.name, torch.zeros(engine.layout.shapes[fragment.name].numel()))
                whole[fragment.start : fragment.start + fragment.numel] = fragment.cut(fragment.flat.grad)
        inner_step(closure)

    engine.optimizer.step = spying_step
    for step, batches in enumerate(feed):
        seen.clear()
        accumulate_gradients(engine, batches, ranks.device, seed=3, phase=0, step=step)
        engine.step(LEARNING_RATE)
        for name, shape in engine.layout.shapes.items():
            gradient = seen.get(name, torch.zeros(shape.numel()))
            if engine.layout.sharded:
                ranks.sum(gradient)
            decay = 0.01 if len(shape) > 1 else 0.0
            oracle[name] = lamb_oracle(oracle[name], gradient.view(shape).double(), moments[name], step + 1, decay)
    weights = full_weights(engine, ranks)
    cut = len({fragment.name for fragment in engine.layout.fragments}) < len(engine.layout.shapes)
    return {name: float((weights[name] - oracle[name]).norm() / oracle[name].norm()) for name in oracle}, cut


@pytest.mark.parametrize(
    ("world_size", "stage", "precision"),
    [*((2, *pair) for pair in STAGES), (1, 1, "fp32"), (1, 1, "bf16"), (3, 1, "bf16"), (3, 2, "fp32"), (4, 1, "fp32")],
)
def test_lamb_equals_a_float64_oracle_that_gets_the_same_gradients(worker_group, shards, stage, precision, world_size):
    results = worker_group(world_size).run(train_and_follow, shards, engine_overrides(stage, precision), "lamb")
    for distances, _ in results:
        assert max(distances.values()) <= 1e-5, max(distances, key=distances.get)
    assert any(cut for _, cut in results) == (stage > 0 and world_size > 1), "the ranks must really hold pieces"


def lamb_on_slices_is_something_else(ranks: Ranks, shards: Path, overrides: list[str]):
    """The same run with every rank blind to the others' pieces, as a plain optimizer under ZeRO is."""
    config = tiny_config(shards, shards, *NO_DROPOUT, *overrides)
    engine = tiny_engine(config, ranks)
    assert isinstance(engine.optimizer, Lamb)
    engine.optimizer.bind(engine.layout.fragments, num_parameters=len(engine.layout.shapes), sharded=False)
    feed = step_feed(ranks, shards, micro_batch_size=1)
    for step, batches in enumerate(feed):
        accumulate_gradients(engine, batches, ranks.device, seed=3, phase=0, step=step)
        engine.step(LEARNING_RATE)
    return full_weights(engine, ranks)


def train_exactly(ranks: Ranks, shards: Path, overrides: list[str]):
    config = tiny_config(shards, shards, *NO_DROPOUT, *overrides)
    engine = tiny_engine(config, ranks)
    micro_batch_size = config.phases[0].data.micro_batch_size
    feed = step_feed(ranks, shards, micro_batch_size=micro_batch_size)
    losses, norms = [], []
    for step, batches in enumerate(feed):
        sums = ranks.sum(accumulate_gradients(engine, batches, ranks.device, seed=3, phase=0, step=step))
        losses.append(float(sums[0] / batches.counts.masked_tokens + sums[2] / batches.counts.pairs))
        norms.append(engine.step(LEARNING_RATE))
    return losses, norms, full_weights(engine, ranks)


def test_a_naive_lamb_would_be_caught_by_these_tests(worker_group, shards):
    group, engine = worker_group(2), engine_overrides(1, "fp32")
    naive = group.run(lamb_on_slices_is_something_else, shards, engine)[0]
    _, _, exact = group.run(train_exactly, shards, engine)[0]
    distance = max(float((naive[name] - exact[name]).norm() / exact[name].norm()) for name in exact)
    assert distance > 1e-3


@pytest.mark.parametrize(
    ("world_size", "stage", "micro_batch_size"), [(1, 0, 1), (2, 0, 2), (2, 1, 1), (3, 2, 2), (4, 2, 2), (5, 1, 1)]
)
def test_losses_and_gradient_norms_do_not_depend_on_how_the_batch_is_cut(
    worker_group, shards, world_size, stage, micro_batch_size
):
    """Four and five ranks do not divide the six streams: fillers run there."""
    whole = worker_group(1).run(train_exactly, shards, [*engine_overrides(0, "fp32"), "data.micro_batch_size=2"])[0]
    overrides = [*engine_overrides(stage, "fp32"), f"data.micro_batch_size={micro_batch_size}"]
    cut = worker_group(world_size).run(train_exactly, shards, overrides)[0]
    assert cut[0][0] == pytest.approx(whole[0][0], rel=1e-6)
    assert cut[0] == pytest.approx(whole[0], rel=1e-5)
    assert cut[1] == pytest.approx(whole[1], rel=1e-4)


def gradient_of_one_plain_backward(ranks: Ranks, shards: Path):
    """Engine's gradient norm and that of a plain torch backward over the whole global batch in one process."""
    config = tiny_config(shards, shards, *NO_DROPOUT, *engine_overrides(0, "fp32"))
    engine = tiny_engine(config, ranks)
    feed = step_feed(ranks, shards, micro_batch_size=2)
    batches = next(iter(feed))
    feed.close()
    order, reader = order_and_reader(shards)
    alone = replace(ranks, rank=0, world_size=1)
    everything, counts = prepare_step(order, reader, alone, step=0, micro_batch_size=2)
    model = engine.module
    loss = sum(
        normalised_loss(
            loss_sums(model(item.batch), item.batch), masked_tokens=counts.masked_tokens, pairs=counts.pairs
        )
        for item in everything
    )
    names, parameters = zip(*model.named_parameters(), strict=True)
    expected = dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))
    accumulate_gradients(engine, batches, ranks.device, seed=3, phase=0, step=0)
    return max(float((parameter.grad - expected[name]).abs().max()) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_gradient_is_that_of_one_backward_over_the_whole_batch(worker_group, shards, world_size):
    for difference in worker_group(world_size).run(gradient_of_one_plain_backward, shards):
        assert difference < 1e-6
