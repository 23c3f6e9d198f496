from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from pretrain.model.hf_names import NAMINGS
from pretrain.model_config import Architecture, ModelConfig
from pretrain.track.flops import flops_per_step, model_flops_utilization
from pretrain.track.metrics import LossSums, StepSums, add_sums, held_out_metrics, loss_metrics, step_metrics
from tests.models import empty_twin

SUMS = StepSums(
    mlm_loss_sum=140.0,
    mlm_correct=5,
    masked_tokens=20,
    nsp_loss_sum=6.0,
    nsp_correct=9,
    pairs=10,
    steps=4,
    tokens=900,
    sequences=10,
    squared_lengths=90_000,
    computed_tokens=1000,
    seconds=2.0,
    data_wait_seconds=0.5,
)


def small_model(**changes: Any) -> ModelConfig:
    values = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2} | changes
    return ModelConfig(
        architecture=values.pop("architecture", Architecture.bert),
        embedding_size=values.pop("embedding_size", None),
        intermediate_size=values.pop("intermediate_size", 48),
        max_position_embeddings=64,
        type_vocab_size=2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=1e-12,
        initializer_range=0.02,
        **values,
    )


def test_step_metrics_by_hand() -> None:
    record = step_metrics(SUMS, model=small_model(), num_devices=2, peak_tflops=None)
    assert record == {
        "loss": 7.6,
        "mlm_loss": 7.0,
        "mlm_accuracy": 0.25,
        "nsp_loss": 0.6,
        "nsp_accuracy": 0.9,
        "tokens_per_second": 450.0,
        "sequences_per_second": 5.0,
        "step_seconds": 0.5,
        "data_wait_fraction": 0.25,
        "token_efficiency": 0.9,
    }


def test_loss_is_the_sum_of_cross_entropy_means_over_unequal_steps() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(count, 11, generator=generator, dtype=torch.float64) for count in (3, 8, 1)]
    labels = [torch.randint(11, (len(part),), generator=generator) for part in parts]
    sums = LossSums(
        mlm_loss_sum=sum(float(cross_entropy(x, y, reduction="sum")) for x, y in zip(parts, labels, strict=True)),
        mlm_correct=sum(int((x.argmax(-1) == y).sum()) for x, y in zip(parts, labels, strict=True)),
        masked_tokens=12,
        nsp_loss_sum=0.0,
        nsp_correct=0,
        pairs=0,
    )
    whole, label = torch.cat(parts), torch.cat(labels)
    record = loss_metrics(sums)
    assert record["loss"] == record["mlm_loss"] == pytest.approx(float(cross_entropy(whole, label)), rel=1e-12)
    assert record["mlm_accuracy"] == float((whole.argmax(-1) == label).double().mean())


@pytest.mark.parametrize(("zero", "gone"), [("masked_tokens", "mlm"), ("pairs", "nsp")])
def test_a_term_without_items_adds_nothing_and_has_no_keys(zero: str, gone: str) -> None:
    kept = {"mlm": "nsp", "nsp": "mlm"}[gone]
    record = loss_metrics(replace(SUMS, **{zero: 0}))
    assert set(record) == {"loss", f"{kept}_loss", f"{kept}_accuracy"}
    assert record["loss"] == record[f"{kept}_loss"]


def test_sums_of_two_stretches_add_up_field_by_field() -> None:
    twice = add_sums(SUMS, SUMS)
    assert asdict(twice) == {k: 2 * v for k, v in asdict(SUMS).items()}
    assert loss_metrics(twice) == loss_metrics(SUMS)


def test_held_out_keys_are_the_training_keys_with_a_prefix() -> None:
    assert held_out_metrics(SUMS) == {f"held_out_{name}": value for name, value in loss_metrics(SUMS).items()}


def test_mfu_counts_real_tokens_on_every_device() -> None:
    model = small_model()
    flops = flops_per_step(model, tokens=900, masked_tokens=20, pairs=10, squared_lengths=90_000)
    record = step_metrics(SUMS, model=model, num_devices=4, peak_tflops=3.0)
    assert record["mfu"] == pytest.approx(flops / 2.0 / (4 * 3.0e12), rel=1e-12)
    assert step_metrics(replace(SUMS, computed_tokens=5000), model=model, num_devices=4, peak_tflops=3.0)[
        "mfu"
    ] == pytest.approx(record["mfu"])


def test_utilization_is_one_at_the_peak() -> None:
    assert model_flops_utilization(6 * 10**12, seconds=2.0, num_devices=3, peak_tflops=1.0) == pytest.approx(1.0)


@settings(max_examples=10)
@given(
    layers=st.integers(1, 3),
    heads=st.integers(1, 3),
    head_size=st.integers(2, 8),
    intermediate=st.integers(1, 40),
    vocab=st.integers(5, 60),
    lengths=st.lists(st.integers(2, 20), min_size=1, max_size=3),
    with_pairs=st.booleans(),
    embedding_size=st.integers(1, 12),
    architecture=st.sampled_from(list(Architecture)),
    data=st.data(),
)
def test_flops_are_those_torch_counts_in_transformers(
    layers: int,
    heads: int,
    head_size: int,
    intermediate: int,
    vocab: int,
    lengths: list[int],
    with_pairs: bool,
    embedding_size: int,
    architecture: Architecture,
    data: st.DataObject,
) -> None:
    config = small_model(
        architecture=architecture,
        embedding_size=embedding_size if architecture is Architecture.albert else None,
        vocab_size=vocab,
        hidden_size=heads * head_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate,
    )
    masked_counts = [data.draw(st.integers(1, length)) for length in lengths]
    with_pairs = with_pairs and config.traits.has_pair_head
    oracle = empty_twin(config, with_pairs=with_pairs)
    oracle.set_attn_implementation("eager")  # plain matrix products, which the counter knows both ways
    heads_of = NAMINGS[architecture].modules
    with FlopCounterMode(display=False) as counter:
        for length, masked in zip(lengths, masked_counts, strict=True):
            encoded = oracle.base_model(torch.ones(1, length, dtype=torch.long))
            loss = oracle.get_submodule(heads_of["mlm_head"])(encoded.last_hidden_state[0, :masked]).sum()
            if with_pairs:
                loss = loss + oracle.get_submodule(heads_of["nsp_head"])(encoded.pooler_output).sum()
            loss.backward()
    assert counter.get_total_flops() == flops_per_step(
        config,
        tokens=sum(lengths),
        masked_tokens=sum(masked_counts),
        pairs=len(lengths) if with_pairs else 0,
        squared_lengths=sum(length**2 for length in lengths),
    )


def test_flops_of_bert_base_are_six_per_parameter_and_token_and_some_attention() -> None:
    base = small_model(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072)
    flops = flops_per_step(base, tokens=512, masked_tokens=0, pairs=0, squared_lengths=512**2)
    encoder_matrices = 12 * 12 * 768**2  # 84,934,656: the usual 85 million
    assert flops == 6 * encoder_matrices * 512 + 12 * 12 * 768 * 512**2
