"""The DeepSpeed dict, the pairs that are supported, and the names of DeepSpeed that we lean on."""

import pytest
import torch
from torch import nn

from pretrain.config import EngineConfig, Precision
from pretrain.engine import SUPPORTED, deepspeed_config, require_supported
from pretrain.optim.fragments import find_layout
from pretrain.optim.lamb import Lamb
from pretrain.optim.param_groups import decay_groups


def engine_config(stage: int, precision: str) -> EngineConfig:
    return EngineConfig(
        zero_stage=stage,
        precision=Precision(precision),
        gradient_clipping=1.0,
        deterministic=False,
        collective_timeout_seconds=60,
    )


def test_the_names_of_deepspeed_that_we_lean_on_are_there():
    import deepspeed
    import deepspeed.ops
    from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
    from deepspeed.runtime.engine import DeepSpeedEngine
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

    assert deepspeed.__version__.startswith("0.19.")
    assert "deepspeed_shm_comm" in deepspeed.ops.__compatible_ops__
    assert hasattr(DeepSpeedEngine, "set_gradient_accumulation_boundary")
    assert hasattr(BF16_Optimizer, "update_lp_params")
    assert hasattr(DeepSpeedZeroOptimizer, "update_lp_params")


@pytest.mark.parametrize("stage", range(4))
@pytest.mark.parametrize("precision", list(Precision))
def test_a_pair_is_either_supported_or_refused_by_name(stage, precision):
    config = engine_config(stage, precision)
    if (stage, precision) in SUPPORTED:
        require_supported(config)
    else:
        with pytest.raises(ValueError, match=f"'{stage} with {precision}' is not valid: this release runs"):
            require_supported(config)


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


def test_a_lamb_bound_to_foreign_tensors_stops():
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    optimizer = Lamb(decay_groups(model, 0.01), lr=1.0, beta1=0.9, beta2=0.999, eps=1e-6)
    adam = torch.optim.AdamW(decay_groups(other, 0.01))
    layout = find_layout(other, adam)
    with pytest.raises(RuntimeError, match="bound to tensors it does not step on"):
        optimizer.bind(layout.fragments, num_parameters=2, sharded=False)
