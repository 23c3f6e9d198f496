"""Training on shards without masks: every rank layout and every resume draws the same ones, epoch by epoch."""

from pathlib import Path

import pytest

from data_prep.manifest import read_manifest
from pretrain.track.metrics_file import read_metrics
from tests.distributed.runs import engine_overrides, lines, train_run
from tests.unit.data_prep.example_documents import prose_like_documents
from tests.unit.data_prep.example_shards import build, finish_directory

SHARDS = ["masking.kind=dynamic", "masking.whole_word=true", "masking.max_ngram=2", "sequence.max_seq_length=32"]
# Without dropout, which is drawn per micro-batch: another micro-batch size must change nothing at all.
RUN = [
    *engine_overrides(1, "fp32"),
    "evaluation.every=10",
    "model.hidden_dropout_prob=0",
    "model.attention_probs_dropout_prob=0",
]


@pytest.fixture(scope="module")
def dynamic_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few enough sequences for 20 steps to read some twice."""
    directory = tmp_path_factory.mktemp("dynamic") / "shards"
    splits = {
        split: [shard for part in parts for shard in build(part, directory, *SHARDS, split=split).shards]
        for split, parts in {
            "train": [prose_like_documents(6)],
            "held_out": [prose_like_documents(3, seed=1)],
        }.items()
    }
    finish_directory(directory, splits, *SHARDS)
    for name in read_manifest(directory).tokenizer_files:  # the run copies them
        (directory / "tokenizer" / name).touch()
    return directory


def test_a_run_with_dynamic_masks_learns_evaluates_and_goes_on_in_any_layout(worker_group, dynamic_shards, tmp_path):
    worker_group(2).run(train_run, dynamic_shards, tmp_path / "whole", *RUN)
    worker_group(2).run(train_run, dynamic_shards, tmp_path / "cut", *RUN, "stop_after=8")
    worker_group(2).run(train_run, dynamic_shards, tmp_path / "cut", *RUN)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    other_layout = [*RUN, "data.micro_batch_size=1"]
    worker_group(1).run(train_run, dynamic_shards, tmp_path / "other", *other_layout, "stop_after=8")
    worker_group(2).run(train_run, dynamic_shards, tmp_path / "other", *other_layout)
    keys = ("step", "sequence_hash", "tokens_seen")
    assert lines(tmp_path / "other", keys) == lines(tmp_path / "whole", keys)
    records, others = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "other"))
    assert [one["loss"] for one in others] == pytest.approx([one["loss"] for one in records], rel=1e-5)
    assert records[-1]["epoch"] > 1
    assert records[-1]["mlm_loss"] < records[0]["mlm_loss"]
    evaluated = [one for one in records if "held_out_mlm_loss" in one]
    assert [one["step"] for one in evaluated] == [10, 20]
    again = [one for one in others if "held_out_mlm_loss" in one]
    for name in ("held_out_mlm_loss", "held_out_mlm_accuracy"):
        assert [one[name] for one in again] == pytest.approx([one[name] for one in evaluated], rel=1e-4)
    # The entropy of the masked tokens: equal where the masks are, at every evaluation and in every layout.
    assert len({one["held_out_unigram_entropy"] for one in [*evaluated, *again]}) == 1
