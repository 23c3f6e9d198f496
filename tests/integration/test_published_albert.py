"""Going on with a model as ALBERT's published ones are: SentencePiece's tokenizer, its shards, a run and its export."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AlbertConfig, AlbertForPreTraining, AutoModelForPreTraining, AutoTokenizer

from data_prep.__main__ import main as prepare
from data_prep.audit import main as audit
from data_prep.manifest import read_manifest
from data_prep.show import main as show
from pretrain.export import main as export
from tests.unit.data_prep.example_unigram import VOCABULARY, published

from .ranks import ROOT

TEXTS = ["the walkers ship [MASK] honey.", "Unaffably, 1998"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("published") / "model"
    torch.manual_seed(0)
    sizes = {"embedding_size": 16, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    config = AlbertConfig(
        vocab_size=len(VOCABULARY), num_hidden_layers=2, max_position_embeddings=64, hidden_act="gelu_new", **sizes
    )
    AlbertForPreTraining(config).save_pretrained(folder)
    published().save_pretrained(folder)
    return folder


def keys(corpus: Path, output_dir: Path, *more: str) -> list[str]:
    places = [f"output_dir={output_dir}", f"corpus.paths=[{corpus}]", "corpus.format=jsonl", "dupe_factor=1"]
    return ["recipe=albert", *places, "sequence.max_seq_length=64", "held_out_fraction=0.2", *more]


@pytest.fixture(scope="module")
def shards(corpus: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output_dir: Path = tmp_path_factory.mktemp("published") / "shards"
    tokenizer = ["tokenizer.kind=unigram", f"tokenizer.vocab_file={model / 'tokenizer.json'}"]
    assert prepare(keys(corpus, output_dir, *tokenizer)) == 0
    return output_dir


def test_its_shards_are_sound_and_read_as_text(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = read_manifest(shards)
    told = manifest.tokenizer
    assert (told.pad_id, told.unk_id, told.cls_id, told.sep_id, told.mask_id) == (0, 1, 2, 3, 4)
    assert told.vocab_size == len(VOCABULARY)
    assert {path.name for path in (shards / "tokenizer").iterdir()} == set(manifest.tokenizer_files)
    assert audit([str(shards)]) == 0
    capsys.readouterr()
    assert show([str(shards), "--instances", "9"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(r" A \[CLS\] .* \[SEP\] B .* \[SEP\]", shown)
    assert "▁" not in shown
    assert " people " in shown


def test_a_run_goes_on_with_it_and_its_export_has_the_same_tokenizer(shards: Path, model: Path, tmp_path: Path) -> None:
    run_dir, exported = tmp_path / "run", tmp_path / "exported"
    arguments = [f"shards_dir={shards}", f"run_dir={run_dir}", f"model.init_from={model}", "tracking=none"]
    arguments += ["max_steps=2", "lr_schedule.warmup_steps=1", "checkpoint.save_every=2", "evaluation.every=0"]
    arguments += ["data.global_batch_size=4", "data.micro_batch_size=4", "data.num_streams=1", "engine.precision=fp32"]
    environment = os.environ | {"DS_ACCELERATOR": "cpu"}
    result = subprocess.run(
        [sys.executable, "-m", "pretrain", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert export([f"run_dir={run_dir}", f"output_dir={exported}"]) == 0
    assert isinstance(AutoModelForPreTraining.from_pretrained(exported), AlbertForPreTraining)
    ours, theirs = AutoTokenizer.from_pretrained(exported), published()
    assert ours(TEXTS)["input_ids"] == theirs(TEXTS)["input_ids"]
    assert ours.decode(ours(TEXTS[1])["input_ids"]) == "[CLS] unaffably, 1998[SEP]"


def test_shards_of_another_tokenizer_are_refused_with_the_command_for_right_ones(
    corpus: Path, model: Path, tmp_path: Path
) -> None:
    assert prepare(keys(corpus, tmp_path / "shards", "tokenizer.vocab_size=150")) == 0
    arguments = [f"shards_dir={tmp_path / 'shards'}", f"run_dir={tmp_path / 'run'}", f"model.init_from={model}"]
    result = subprocess.run(
        [sys.executable, "-m", "pretrain", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    command = f"python -m data_prep tokenizer.vocab_file={model / 'tokenizer.json'} tokenizer.kind=unigram ..."
    assert command in result.stderr
