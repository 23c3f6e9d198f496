import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertForPreTraining

from pretrain.config import Kernels
from pretrain.data.batch import MicroBatch, to_micro_batch
from pretrain.model.bert import BertForPretraining, PretrainingLogits
from tests.models import build_model, huggingface_twin, pad, random_batch, tiny_config
from tests.shards import random_block


def loss_of(logits: PretrainingLogits, batch: MicroBatch) -> torch.Tensor:
    assert logits.nsp_logits is not None
    assert batch.next_sentence_labels is not None
    mlm = F.cross_entropy(logits.mlm_logits.float(), batch.masked_lm_ids)
    return mlm + F.cross_entropy(logits.nsp_logits.float(), batch.next_sentence_labels)


@settings(max_examples=20)
@given(lengths=st.lists(st.integers(2, 24), min_size=2, max_size=8))
def test_an_instance_has_the_same_logits_in_any_company(lengths: list[int]) -> None:
    config = tiny_config(num_hidden_layers=2)
    model = build_model(config).eval()
    batch = random_batch(lengths, config)
    together = model(batch)
    first = 0
    for i, length in enumerate(lengths):
        alone = batch._replace(
            input_ids=batch.input_ids[first : first + length],
            token_type_ids=batch.token_type_ids[first : first + length],
            position_ids=batch.position_ids[first : first + length],
            cu_seqlens=torch.tensor([0, length], dtype=torch.int32),
            instance_lengths=(length,),
            masked_positions=batch.masked_positions[
                (batch.masked_positions >= first) & (batch.masked_positions < first + length)
            ]
            - first,
        )
        mine = (batch.masked_positions >= first) & (batch.masked_positions < first + length)
        logits = model(alone)
        torch.testing.assert_close(logits.mlm_logits, together.mlm_logits[mine], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(logits.nsp_logits, together.nsp_logits[i : i + 1], atol=1e-5, rtol=1e-5)
        first += length


def test_a_packed_block_has_the_loss_of_the_unpacked_one_and_of_transformers() -> None:
    config = tiny_config(num_hidden_layers=2, vocab_size=64)
    model = build_model(config).eval()
    block = random_block(np.random.default_rng(0), sequences=7, vocab_size=64, max_length=20)
    packed = to_micro_batch(dataclasses.replace(block, sequence_instances=np.array([3, 1, 3])))
    single = [to_micro_batch(block.take(np.array([i]))) for i in range(7)]

    def sums(batch: MicroBatch) -> np.ndarray:
        logits = model(batch)
        mlm = F.cross_entropy(logits.mlm_logits, batch.masked_lm_ids, reduction="sum")
        nsp = F.cross_entropy(logits.nsp_logits, batch.next_sentence_labels, reduction="sum")
        return np.array([mlm.item() / len(packed.masked_lm_ids), nsp.item() / 7])

    labels = torch.full_like(packed.input_ids, -100)
    labels[packed.masked_positions] = packed.masked_lm_ids
    rows = torch.nn.utils.rnn.pad_sequence(
        labels.split(list(packed.instance_lengths)), batch_first=True, padding_value=-100
    )
    twin = huggingface_twin(model, config)
    expected = twin(**pad(packed), labels=rows, next_sentence_label=packed.next_sentence_labels).loss.item()
    assert sums(packed).sum() == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(sums(packed), sum(sums(batch) for batch in single), atol=1e-5)


def test_dropout_spreads_the_logits_as_in_transformers() -> None:
    config = tiny_config(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.4)
    model = build_model(config, seed=4)
    twin = huggingface_twin(model, config)
    batch = random_batch([9], config)
    copies = 4000
    many = MicroBatch(
        input_ids=batch.input_ids.repeat(copies),
        token_type_ids=batch.token_type_ids.repeat(copies),
        position_ids=batch.position_ids.repeat(copies),
        cu_seqlens=torch.arange(copies + 1, dtype=torch.int32) * 9,
        instance_lengths=(9,) * copies,
        masked_positions=torch.arange(copies) * 9 + 4,
        masked_lm_ids=torch.zeros(copies, dtype=torch.int64),
        next_sentence_labels=None,
    )
    torch.manual_seed(0)
    with torch.no_grad():
        ours = model.train()(many)
        theirs = twin.train()(**pad(many))
    for mine, other in (
        (ours.mlm_logits, theirs.prediction_logits[:, 4]),
        (ours.nsp_logits, theirs.seq_relationship_logits),
    ):
        spread = other.std(0)
        assert (spread > 0.05).all()
        torch.testing.assert_close(mine.std(0), spread, rtol=0.1, atol=0)
        assert ((mine.mean(0) - other.mean(0)).abs() < 6 * spread * (2 / copies) ** 0.5).all()


def test_the_seed_decides_a_training_step_to_the_last_bit() -> None:
    config = tiny_config(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)
    model = build_model(config).train()
    batch = random_batch([20, 11, 24, 3], config)

    def gradients(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return list(torch.autograd.grad(loss_of(model(batch), batch), list(model.parameters())))

    assert all(torch.equal(a, b) for a, b in zip(gradients(1), gradients(1), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(gradients(1), gradients(2), strict=True))


def test_word_embeddings_and_decoder_are_one_parameter() -> None:
    config = tiny_config()
    model = build_model(config)
    twin = huggingface_twin(model, config)
    assert isinstance(twin, BertForPreTraining)
    assert sum(p.numel() for p in model.parameters()) == twin.num_parameters()
    batch = random_batch([6], config)
    batch = batch._replace(masked_lm_ids=torch.full_like(batch.masked_lm_ids, 7), input_ids=batch.input_ids.clamp(8))
    loss_of(model(batch), batch).backward()
    grad = model.embeddings.word_embeddings.weight.grad
    assert grad is not None
    assert grad[7].abs().sum() > 0, "a label that is no input has a gradient through the decoder only"


def test_without_pairs_there_is_no_pair_head() -> None:
    config = tiny_config()
    model = build_model(config, with_pairs=False)
    assert model(random_batch([5, 3], config)).nsp_logits is None
    assert not [name for name, _ in model.named_parameters() if "pooler" in name or "nsp" in name]


def test_a_batch_without_masks_has_no_mlm_logits_and_still_a_gradient() -> None:
    config = tiny_config()
    model = build_model(config)
    batch = random_batch([5, 3], config)
    nothing = torch.zeros(0, dtype=torch.int64)
    logits = model(batch._replace(masked_positions=nothing, masked_lm_ids=nothing))
    assert logits.mlm_logits.shape == (0, 61)
    (logits.mlm_logits.sum() + F.cross_entropy(logits.nsp_logits, batch.next_sentence_labels)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_bf16_loss_and_gradients_are_near_those_of_fp32() -> None:
    config = tiny_config(num_hidden_layers=2, initializer_range=0.05)
    batch = random_batch([24, 20, 11, 24], config)
    model = build_model(config).bfloat16()
    exact = build_model(config)
    exact.load_state_dict(model.state_dict())  # both from the rounded weights
    losses = [loss_of(m(batch), batch) for m in (model, exact)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-3)
    for loss in losses:
        loss.backward()
    for (name, ours), theirs in zip(model.named_parameters(), exact.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert ours.grad.dtype == torch.bfloat16
        if "key.bias" not in name:  # it has no true gradient, only rounding
            assert (ours.grad.float() - theirs.grad).norm() < 0.02 * theirs.grad.norm(), name


def test_weights_start_as_in_google_research_bert() -> None:
    torch.manual_seed(0)
    model = BertForPretraining(tiny_config(hidden_size=64, initializer_range=0.02), Kernels.torch, with_pairs=True)
    for name, parameter in model.named_parameters():
        if "norm.weight" in name:
            assert (parameter == 1).all(), name
        elif name.endswith("bias"):
            assert (parameter == 0).all(), name
        else:
            assert parameter.abs().max() <= 0.04, name
            if parameter.numel() > 500:
                # A normal cut off at two deviations keeps 0.88 of the deviation.
                assert parameter.std().item() == pytest.approx(0.0176, rel=0.1), name


def test_a_model_needs_to_know_its_vocabulary() -> None:
    with pytest.raises(ValueError, match=r"model\.vocab_size=None"):
        BertForPretraining(tiny_config(vocab_size=None), Kernels.torch, with_pairs=True)


def test_an_instance_longer_than_the_positions_is_refused() -> None:
    config = tiny_config(max_position_embeddings=8)
    with pytest.raises(ValueError, match=r"max_position_embeddings=8 .* 9 tokens"):
        build_model(config)(random_batch([8, 9], config))


def test_a_few_steps_learn_a_batch_by_heart() -> None:
    config = tiny_config(initializer_range=0.02, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    torch.manual_seed(0)
    model = BertForPretraining(config, Kernels.auto, with_pairs=True)
    batch = random_batch([20, 24, 9], config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = loss_of(model(batch), batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
