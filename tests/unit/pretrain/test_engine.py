"""The DeepSpeed dict, the pairs that are supported, and the names of DeepSpeed that we lean on."""

import pytest
import torch
from torch import nn

from conf.compose import compose
from pretrain.config import PretrainConfig
from pretrain.deepspeed_config import SUPPORTED, deepspeed_config, require_supported
from pretrain.engine import LOSS_SCALER_STATE
from pretrain.engine_config import EngineConfig, OptimizerConfig, OptimizerKind, Precision
from pretrain.optim.adamw import AdamW
from pretrain.optim.fragments import find_layout
from pretrain.optim.lamb import Lamb
from pretrain.optim.param_groups import decay_groups


def engine_config(stage: int, precision: str, *overrides: str) -> EngineConfig:
    keys = [f"engine.zero_stage={stage}", f"engine.precision={precision}", *overrides]
    return compose("pretrain", PretrainConfig, ["shards_dir=s", "run_dir=r", *keys]).engine


def test_the_names_of_deepspeed_that_we_lean_on_are_there():
    import deepspeed
    import deepspeed.ops
    from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
    from deepspeed.runtime.engine import DeepSpeedEngine
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler
    from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

    assert deepspeed.__version__.startswith("0.19.")
    assert "deepspeed_shm_comm" in deepspeed.ops.__compatible_ops__
    assert hasattr(DeepSpeedEngine, "set_gradient_accumulation_boundary")
    assert hasattr(BF16_Optimizer, "update_lp_params")
    assert hasattr(DeepSpeedZeroOptimizer, "update_lp_params")
    for name in (
        "checkpoint_event_prologue",
        "checkpoint_event_epilogue",
        "_reassign_or_swap_out_partitioned_parameters",
    ):
        assert hasattr(DeepSpeedZeroOptimizer_Stage3, name)
    scaler = DynamicLossScaler(2**16, 1000, 1, 2, False)
    assert all(hasattr(scaler, name) for name in LOSS_SCALER_STATE)


@pytest.mark.parametrize("stage", range(4))
@pytest.mark.parametrize("precision", list(Precision))
def test_a_pair_is_either_supported_or_refused_by_name(stage, precision):
    config = engine_config(stage, precision)
    if (stage, precision) == (0, "fp16"):
        with pytest.raises(ValueError, match=r"'0 with fp16' is not valid: DeepSpeed 0\.19\.8 unscales"):
            require_supported(config)
    else:
        assert (stage, precision) in SUPPORTED
        require_supported(config)


def test_offload_needs_a_stage_that_shards():
    require_supported(engine_config(1, "fp32", "engine.offload_optimizer=true"))
    with pytest.raises(ValueError, match=r"engine\.offload_optimizer=True is not valid"):
        require_supported(engine_config(0, "fp32", "engine.offload_optimizer=true"))


def test_bf16_accumulates_and_communicates_in_fp32():
    settings = deepspeed_config(engine_config(1, "bf16"))
    assert settings["data_types"] == {"grad_accum_dtype": "fp32"}
    assert settings["communication_data_type"] == "fp32"
    assert settings["gradient_allreduce_op"] == "sum"


def test_stage_zero_leaves_clipping_to_us_so_that_the_norm_is_known():
    assert deepspeed_config(engine_config(0, "fp32"))["gradient_clipping"] == 0.0
    assert deepspeed_config(engine_config(1, "fp32"))["gradient_clipping"] == 1.0


def test_an_engine_class_we_do_not_know_is_refused():
    with pytest.raises(RuntimeError, match="DeepSpeed chose object, whose layout is unknown"):
        find_layout(nn.Linear(2, 2), object())


def test_matrices_decay_and_biases_and_norms_do_not():
    model = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    decayed, rest = decay_groups(model, 0.01)
    assert [tuple(p.shape) for p in decayed["params"]] == [(5, 4), (3, 4)]
    assert [tuple(p.shape) for p in rest["params"]] == [(4,), (4,), (3,)]
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.01, 0.0)


def test_an_unbound_lamb_changes_nothing():
    """DeepSpeed steps once inside initialize on some paths, with zero gradients."""
    model = nn.Linear(3, 2)
    optimizer = Lamb(decay_groups(model, 0.01), lr=1.0, beta1=0.9, beta2=0.999, eps=1e-6)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert not optimizer.state


def bound_lamb(model: nn.Module, **options: bool) -> Lamb:
    optimizer = Lamb(decay_groups(model, 0.01), lr=0.1, beta1=0.9, beta2=0.999, eps=1e-6, **options)
    optimizer.bind(find_layout(model, optimizer))
    return optimizer


def test_a_lamb_bound_to_foreign_tensors_stops():
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    optimizer = Lamb(decay_groups(model, 0.01), lr=1.0, beta1=0.9, beta2=0.999, eps=1e-6)
    optimizer.bind(find_layout(other, torch.optim.AdamW(decay_groups(other, 0.01))))
    model.weight.grad = torch.ones_like(model.weight)
    with pytest.raises(RuntimeError, match=r"LAMB is to step on a tensor \[2, 3\] that it was not bound to"):
        optimizer.step()


def test_fragments_that_do_not_make_up_the_model_are_refused():
    model = nn.Linear(3, 2)
    with pytest.raises(RuntimeError, match="the ranks hold 0 of the 2 elements of bias"):
        find_layout(model, torch.optim.AdamW([model.weight]))


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize("adapt_undecayed", [True, False])
def test_the_options_of_lamb_are_those_of_its_sources(bias_correction, adapt_undecayed):
    model = nn.Linear(3, 2)
    nn.init.ones_(model.bias)
    before = {name: parameter.detach().double() for name, parameter in model.named_parameters()}
    optimizer = bound_lamb(model, bias_correction=bias_correction, adapt_undecayed=adapt_undecayed)
    for parameter in model.parameters():
        parameter.grad = torch.arange(1.0, parameter.numel() + 1).view_as(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        weight, gradient = before[name], parameter.grad.double()
        correction = (1 - 0.9, 1 - 0.999) if bias_correction else (1.0, 1.0)
        m, v = 0.1 * gradient / correction[0], 0.001 * gradient**2 / correction[1]
        decay = 0.01 if name == "weight" else 0.0
        update = m / (v.sqrt() + 1e-6) + decay * weight
        ratio = weight.norm() / update.norm() if decay or adapt_undecayed else 1.0
        assert torch.allclose(parameter.double(), weight - 0.1 * ratio * update, rtol=1e-5)


@pytest.mark.parametrize("norm", [float("nan"), float("inf"), -1.0])
def test_neither_optimizer_updates_by_a_gradient_that_is_no_number(norm):
    """DeepSpeed writes a norm that is no number in one of these ways, and steps nevertheless at stage 2 in bf16."""
    for build in (bound_lamb, lambda model: AdamW(decay_groups(model, 0.01), lr=0.1)):
        model = nn.Linear(3, 2)
        optimizer = build(model)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.guard.grad_norm = lambda: norm
        optimizer.step()
        assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
        assert not optimizer.state
        optimizer.guard.grad_norm = lambda: 3.0
        optimizer.step()
        assert not any(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("field", ["bias_correction", "adapt_undecayed"])
def test_adamw_refuses_the_options_of_lamb(field):
    values = {"bias_correction": True, "adapt_undecayed": False}
    values[field] = not values[field]
    numbers = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-6, "weight_decay": 0.0}
    with pytest.raises(ValueError, match=rf"optimizer\.{field}"):
        OptimizerConfig(kind=OptimizerKind.adamw, **numbers, **values)
