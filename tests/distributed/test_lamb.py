"""LAMB under ZeRO is LAMB: after many steps the weights are those of a float64 optimizer on one process."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pretrain.config import PretrainConfig
from pretrain.data.feed import feed_steps, prepare_step
from pretrain.distributed import Ranks
from pretrain.engine import Engine, build_engine
from pretrain.objective import loss_sums, normalised_loss
from pretrain.optim.lamb import Lamb
from pretrain.step import accumulate_gradients
from tests.distributed.runs import ALBERT, engine_overrides, full_weights, tiny_config, tiny_engine
from tests.shards import order_and_reader

STEPS, LEARNING_RATE, CLIP = 20, 0.01, 1.0
NO_DROPOUT = ["model.hidden_dropout_prob=0.0", "model.attention_probs_dropout_prob=0.0"]


def lamb_oracle(weight, gradient, moments, step, decay, lr=LEARNING_RATE, beta1=0.9, beta2=0.999, eps=1e-6):
    """One float64 update from the paper's algorithm 2 and NVIDIA's choices; `moments` is changed in place."""
    moments[0] = beta1 * moments[0] + (1 - beta1) * gradient
    moments[1] = beta2 * moments[1] + (1 - beta2) * gradient**2
    m, v = moments[0] / (1 - beta1**step), moments[1] / (1 - beta2**step)
    update = m / (v.sqrt() + eps) + decay * weight
    ratio = weight.norm() / update.norm() if decay and weight.norm() and update.norm() else 1.0
    return weight - lr * ratio * update, float(ratio)


def step_feed(ranks: Ranks, shards: Path, config: PretrainConfig):
    """Return the steps of the config's only phase."""
    data = config.phases[0].data
    order, reader = order_and_reader(shards, num_streams=data.num_streams, global_batch_size=data.global_batch_size)
    return feed_steps(order, reader, ranks, micro_batch_size=data.micro_batch_size, steps=range(STEPS))


def spy_on_gradients(engine: Engine) -> dict[str, torch.Tensor]:
    """Return a dict that each step fills with this rank's pieces of the gradients that the optimizer gets."""
    seen: dict[str, torch.Tensor] = {}
    inner_step = engine.optimizer.step

    def spying_step(closure=None):
        stepped_on = {tensor for group in engine.optimizer.param_groups for tensor in group["params"]}
        for fragment in engine.layout.fragments:
            if fragment.flat in stepped_on and fragment.flat.grad is not None:
                whole = seen.setdefault(fragment.name, torch.zeros(engine.layout.shapes[fragment.name].numel()))
                whole[fragment.start : fragment.start + fragment.numel] = fragment.cut(fragment.flat.grad)
        inner_step(closure)

    engine.optimizer.step = spying_step
    return seen


def train_and_follow(ranks: Ranks, shards: Path, overrides: list[str]):
    """Train; feed the oracle the very gradients the optimizer got; return how far weights and trust ratios are off.

    Weights: ‖p - p*‖ / ‖p*‖ per tensor after the last step; ratios: the largest relative error of any step.
    """
    config = tiny_config(shards, shards, *NO_DROPOUT, *overrides)
    engine = tiny_engine(config, ranks)
    oracle = {name: weight.double() for name, weight in full_weights(engine, ranks).items()}
    moments = {name: [torch.zeros_like(weight), torch.zeros_like(weight)] for name, weight in oracle.items()}
    seen = spy_on_gradients(engine)
    worst_ratio = 0.0
    for step, batches in enumerate(step_feed(ranks, shards, config)):
        seen.clear()
        accumulate_gradients(engine, batches, ranks.device, seed=3, phase=0, step=step)
        engine.step(LEARNING_RATE)
        ratios = engine.trust_ratios()
        assert set(ratios) == {name for name, shape in engine.layout.shapes.items() if len(shape) > 1}
        for name, shape in engine.layout.shapes.items():
            gradient = seen.get(name, torch.zeros(shape.numel()))
            if engine.layout.sharded:
                ranks.sum(gradient)
            decay = 0.01 if len(shape) > 1 else 0.0
            oracle[name], ratio = lamb_oracle(
                oracle[name], gradient.view(shape).double(), moments[name], step + 1, decay
            )
            worst_ratio = max(worst_ratio, abs(ratios.get(name, 1.0) / ratio - 1))
    weights = full_weights(engine, ranks)
    distances = {name: float((weights[name] - oracle[name]).norm() / oracle[name].norm()) for name in oracle}
    return distances, worst_ratio, is_cut(engine)


def is_cut(engine: Engine) -> bool:
    """Return whether this rank holds only a part of the model."""
    return sum(fragment.numel for fragment in engine.layout.fragments) < sum(
        shape.numel() for shape in engine.layout.shapes.values()
    )


EVERY_STAGE_AND_WORLD = {(world_size, stage, "fp32", False) for world_size in (1, 2, 3, 4) for stage in range(4)}
LOW_PRECISION = {(2, stage, "bf16", False) for stage in range(4)} | {(3, 1, "bf16", False), (3, 3, "bf16", False)}
OFFLOADED = {(2, stage, precision, True) for stage in (1, 2, 3) for precision in ("fp32", "bf16")}
ALWAYS = {
    *((2, stage, "fp32", False) for stage in range(4)),
    (2, 0, "bf16", False),
    (2, 3, "bf16", False),
    (3, 3, "fp32", False),
    (2, 2, "bf16", True),
    (2, 3, "fp32", True),
}


@pytest.mark.parametrize(
    ("world_size", "stage", "precision", "offload"),
    [
        pytest.param(*case, marks=() if case in ALWAYS else pytest.mark.slow)
        for case in sorted(EVERY_STAGE_AND_WORLD | LOW_PRECISION | OFFLOADED)
    ],
)
def test_lamb_equals_a_float64_oracle_that_gets_the_same_gradients(
    worker_group, shards, world_size, stage, precision, offload
):
    overrides = engine_overrides(stage, precision, offload=offload)
    for distances, worst_ratio, cut in worker_group(world_size).run(train_and_follow, shards, overrides):
        assert max(distances.values()) <= 1e-5, max(distances, key=distances.get)
        assert worst_ratio <= 1e-5
        assert cut == (stage > 0 and world_size > 1), "the ranks must really hold pieces"


SHARED_LAYERS = {(2, 1, "fp32"), (2, 3, "bf16")}


@pytest.mark.parametrize(
    ("world_size", "stage", "precision"),
    [
        pytest.param(*case, marks=() if case in SHARED_LAYERS else pytest.mark.slow)
        for case in sorted(
            SHARED_LAYERS
            | {(world_size, stage, "fp32") for world_size in (2, 3) for stage in range(4)}
            | {(2, 1, "bf16")}
        )
    ],
)
def test_a_layer_that_is_used_thrice_has_one_trust_ratio_that_equals_the_oracles(
    worker_group, shards, world_size, stage, precision
):
    overrides = [*engine_overrides(stage, precision), *ALBERT]
    for distances, worst_ratio, cut in worker_group(world_size).run(train_and_follow, shards, overrides):
        assert sum(name.startswith("layers.") for name in distances) == 16
        assert max(distances.values()) <= 1e-5, max(distances, key=distances.get)
        assert worst_ratio <= 1e-5
        assert cut == (stage > 0)


def train_a_few_numbers(ranks: Ranks, directory: Path, overrides: list[str]):
    """Train 3 x 2 weights and 2 biases on random gradients, clipped; return how far off, and what this rank holds.

    Off: ‖p - p*‖ / ‖p*‖ per tensor after the last step, and the relative error of each step's gradient norm.
    """
    config = tiny_config(directory, directory, *overrides)
    torch.manual_seed(7)
    engine = build_engine(torch.nn.Linear(3, 2).to(ranks.device), config.engine, config.optimizer)
    oracle = {name: weight.double() for name, weight in full_weights(engine, ranks).items()}
    moments = {name: [torch.zeros_like(weight), torch.zeros_like(weight)] for name, weight in oracle.items()}
    generator, norm_errors = torch.Generator().manual_seed(8), []
    for step in range(1, 6):
        inputs, factors = torch.randn(4, 3, generator=generator), torch.randn(4, 2, generator=generator)
        loss = (engine.forward(inputs.to(ranks.device)) * factors.to(ranks.device)).sum()
        engine.backward(loss / ranks.world_size, is_last=True)
        norm = engine.step(LEARNING_RATE)
        gradients = {"weight": factors.double().T @ inputs.double(), "bias": factors.double().sum(dim=0)}
        expected = float(torch.cat([gradient.flatten() for gradient in gradients.values()]).norm())
        norm_errors.append(abs(norm / expected - 1))
        for name, decay in (("weight", 0.01), ("bias", 0.0)):
            clipped = gradients[name] / max(1.0, expected / CLIP)
            oracle[name], _ = lamb_oracle(oracle[name], clipped, moments[name], step, decay)
    weights = full_weights(engine, ranks)
    distances = [float((weights[name] - oracle[name]).norm() / oracle[name].norm()) for name in oracle]
    return max(distances), max(norm_errors), {fragment.name for fragment in engine.layout.fragments}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_ranks_that_hold_nothing_but_padding_take_part_in_lamb(worker_group, tmp_path, stage):
    """Of four ranks one has no fragment at all, and one of the weight only."""
    results = worker_group(4).run(train_a_few_numbers, tmp_path, engine_overrides(stage, "fp32"))
    held = [names for _, _, names in results]
    assert set() in held
    assert {"weight"} in held
    assert {"weight", "bias"} in held
    for distance, norm_error, _ in results:
        assert distance <= 1e-5
        assert norm_error <= 1e-5


def lamb_on_slices_is_something_else(ranks: Ranks, shards: Path, overrides: list[str]):
    """The same run with every rank blind to the others' pieces, as a plain optimizer under ZeRO is."""
    config = tiny_config(shards, shards, *NO_DROPOUT, *overrides)
    engine = tiny_engine(config, ranks)
    assert isinstance(engine.optimizer, Lamb)
    engine.optimizer.bind(replace(engine.layout, sharded=False))
    for step, batches in enumerate(step_feed(ranks, shards, config)):
        accumulate_gradients(engine, batches, ranks.device, seed=3, phase=0, step=step)
        engine.step(LEARNING_RATE)
    return full_weights(engine, ranks)


def train_exactly(ranks: Ranks, shards: Path, overrides: list[str]):
    config = tiny_config(shards, shards, *NO_DROPOUT, *overrides)
    engine = tiny_engine(config, ranks)
    losses, norms = [], []
    for step, batches in enumerate(step_feed(ranks, shards, config)):
        sums = ranks.sum(accumulate_gradients(engine, batches, ranks.device, seed=3, phase=0, step=step).sum(dim=0))
        losses.append(float(sums[0] / batches.counts.masked_tokens + sums[2] / batches.counts.pairs))
        norms.append(engine.step(LEARNING_RATE))
    return losses, norms, full_weights(engine, ranks)


def test_a_naive_lamb_would_be_caught_by_these_tests(worker_group, shards):
    group, engine = worker_group(2), engine_overrides(1, "fp32")
    naive = group.run(lamb_on_slices_is_something_else, shards, engine)[0]
    _, _, exact = group.run(train_exactly, shards, engine)[0]
    distance = max(float((naive[name] - exact[name]).norm() / exact[name].norm()) for name in exact)
    assert distance > 1e-3


WHOLE_BATCH = "data.global_batch_size=24"


@pytest.fixture(scope="module")
def uncut(worker_group, shards):
    return worker_group(1).run(train_exactly, shards, [*engine_overrides(0, "fp32"), WHOLE_BATCH])[0]


@pytest.mark.parametrize(
    ("world_size", "stage", "micro_batch_size"),
    [
        *((1, 0, 1), (2, 3, 2), (3, 2, 4)),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((1, 3, 2), (2, 0, 4), (2, 1, 1), (3, 3, 1), (4, 2, 2), (5, 1, 1), (5, 3, 4))
        ),
    ],
)
def test_losses_and_gradient_norms_do_not_depend_on_how_the_batch_is_cut(
    worker_group, shards, uncut, world_size, stage, micro_batch_size
):
    """Four and five ranks do not divide the six streams: fillers run there."""
    overrides = [*engine_overrides(stage, "fp32"), WHOLE_BATCH, f"data.micro_batch_size={micro_batch_size}"]
    cut = worker_group(world_size).run(train_exactly, shards, overrides)[0]
    assert cut[0][0] == pytest.approx(uncut[0][0], rel=1e-6)
    assert cut[0] == pytest.approx(uncut[0], rel=1e-5)
    assert cut[1] == pytest.approx(uncut[1], rel=1e-4)


@pytest.fixture(scope="module")
def uncut_albert(worker_group, shards):
    return worker_group(1).run(train_exactly, shards, [*engine_overrides(0, "fp32"), WHOLE_BATCH, *ALBERT])[0]


@pytest.mark.parametrize(
    ("world_size", "stage"),
    [
        *((2, 3), (3, 2)),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((2, 0), (2, 1), (2, 2), (3, 3), (5, 3))),
    ],
)
def test_shared_layers_get_the_gradients_of_all_their_uses_however_the_batch_is_cut(
    worker_group, shards, uncut_albert, world_size, stage
):
    overrides = [*engine_overrides(stage, "fp32"), WHOLE_BATCH, *ALBERT]
    losses, norms, _ = worker_group(world_size).run(train_exactly, shards, overrides)[0]
    assert losses == pytest.approx(uncut_albert[0], rel=1e-5)
    assert norms == pytest.approx(uncut_albert[1], rel=1e-4)


def gradient_of_one_plain_backward(ranks: Ranks, shards: Path):
    """Engine's gradient norm and that of a plain torch backward over the whole global batch in one process."""
    config = tiny_config(shards, shards, *NO_DROPOUT, *engine_overrides(0, "fp32"))
    engine = tiny_engine(config, ranks)
    feed = step_feed(ranks, shards, config)
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
