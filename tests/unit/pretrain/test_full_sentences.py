"""Shards of `pairs.kind=none`, from data_prep to a training step."""

from pathlib import Path

import torch

from data_prep.shard_reader import read_block, read_index
from pretrain.data.batch import MicroBatch, to_micro_batch
from pretrain.objective import loss_sums, normalised_loss
from tests.models import build_model, tiny_config
from tests.unit.data_prep.example_documents import prose_like_documents
from tests.unit.data_prep.example_shards import build


def batch_of_full_sentences(directory: Path) -> MicroBatch:
    [shard] = build(prose_like_documents(8), directory, "pairs.kind=none").shards
    tar = directory / shard.name
    with tar.open("rb") as file:
        return to_micro_batch(read_block(file, read_index(tar)[0])[1])


def test_a_batch_of_full_sentences_has_one_segment_and_no_labels(tmp_path: Path) -> None:
    batch = batch_of_full_sentences(tmp_path)
    assert not batch.token_type_ids.any()
    assert batch.next_sentence_labels is None


def test_a_model_without_pairs_learns_from_full_sentences(tmp_path: Path) -> None:
    batch = batch_of_full_sentences(tmp_path)
    config = tiny_config(vocab_size=60, max_position_embeddings=64, initializer_range=0.02)
    model = build_model(config, with_pairs=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for _ in range(8):
        sums = loss_sums(model(batch), batch)
        loss = normalised_loss(sums, masked_tokens=len(batch.masked_lm_ids), pairs=0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert sums.nsp_loss.item() == sums.nsp_correct.item() == 0
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert losses[-1] < losses[0] - 0.05
