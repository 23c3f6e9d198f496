"""Panels name metrics that the trainer logs, each once, and leave out only what nobody would draw."""

import ast
from pathlib import Path

import pytest

from pretrain.model_config import Architecture, ModelConfig
from pretrain.track.metrics import StepSums, held_out_metrics, step_metrics
from pretrain.track.panels import SECTIONS
from pretrain.track.rank_times import RankMeans, compare_ranks
from pretrain.track.trust_ratios import trust_ratio_metrics

ROOT = Path(__file__).resolve().parents[3]
PANELS = [panel for section in SECTIONS for panel in section.panels]
SHOWN = [metric for panel in PANELS for metric in panel.metrics]
NOT_DRAWN = {"step", "sequences_per_second", "sequences_seen", "sequence_hash", "held_out_loss", "resumed"}
MODEL = ModelConfig(
    architecture=Architecture.bert,
    embedding_size=None,
    vocab_size=8,
    hidden_size=2,
    num_hidden_layers=1,
    num_attention_heads=1,
    intermediate_size=2,
    max_position_embeddings=8,
    type_vocab_size=2,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    layer_norm_eps=1e-12,
    initializer_range=0.02,
)
SUMS = StepSums(
    mlm_loss_sum=1.0,
    mlm_correct=1,
    masked_tokens=1,
    nsp_loss_sum=1.0,
    nsp_correct=1,
    pairs=1,
    steps=1,
    tokens=1,
    sequences=1,
    squared_lengths=1,
    computed_tokens=1,
    seconds=1.0,
    data_wait_seconds=0.0,
)


def literals(path: str) -> set[str]:
    """Return every text that a module of the trainer writes down."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def measured() -> set[str]:
    """Return the metrics that come out of sums, losses, comparisons of ranks and trust ratios."""
    speeds = step_metrics(SUMS, model=MODEL, num_devices=1, peak_tflops=1.0)
    ranks = compare_ranks([RankMeans(forward_seconds=1.0, reading_seconds=1.0, memory_bytes=1.0)] * 2)
    return {*speeds, *held_out_metrics(SUMS), *ranks, *trust_ratio_metrics({"layers.0.weight": 1.0})}


def test_every_metric_of_a_step_is_drawn_or_known_not_to_be():
    layers = tuple(panel.layers for panel in PANELS if panel.layers)
    assert {name for name in measured() if not name.startswith(layers)} - set(SHOWN) - NOT_DRAWN == set()


@pytest.mark.parametrize(
    ("place", "metrics"),
    [
        ("pretrain/step.py", {"learning_rate", "grad_norm", "skipped_steps", "loss_scale", "phase", "epoch"}),
        ("pretrain/distillation/teacher.py", {"distillation_loss", "hidden_loss"}),
        ("pretrain/checkpoint/saver.py", {"save_seconds", "save_stall_seconds", "save_failures"}),
    ],
)
def test_what_other_parts_log_is_drawn_under_the_name_it_has_there(place: str, metrics: set[str]):
    assert metrics <= set(SHOWN)
    assert metrics <= literals(place)


def test_a_metric_is_drawn_once_and_panels_have_names_of_their_own():
    assert sorted(SHOWN) == sorted(set(SHOWN))
    titles = [panel.title for panel in PANELS]
    assert sorted(titles) == sorted(set(titles))
    assert all(panel.curves or panel.layers for panel in PANELS)
