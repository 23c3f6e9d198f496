"""Masks that the trainer draws: like static ones, and a function of (seed, phase, epoch, sequence) alone."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.block_checks import masked_tokens, original_ids
from data_prep.manifest import read_manifest
from data_prep.masking import MaskingRules
from data_prep.shard_format import Block
from pretrain.data.feed import StepCounts, WeightedBatch, prepare_step
from pretrain.data.masks import Place, draw_masks, dynamic_masking
from pretrain.data.order import PhaseOrder
from pretrain.data.reader import BlockReader, ShardDirectory
from pretrain.distributed import Ranks
from tests.unit.data_prep.example_documents import prose_like_documents
from tests.unit.data_prep.example_shards import TOKENIZER, build, finish_directory, read_all

DYNAMIC = "masking.kind=dynamic"
GROUPS = ("control_group", "data_group", "save_group")  # no process group is needed to prepare a step
KINDS = [[], ["masking.whole_word=true"], ["masking.max_ngram=3"], ["masking.whole_word=true", "masking.max_ngram=3"]]


def write_directory(directory: Path, *overrides: str, documents: int = 40) -> Path:
    shards = [
        shard
        for bucket in (0, 1)
        for shard in build(prose_like_documents(documents, seed=bucket), directory, *overrides, bucket=bucket).shards
    ]
    finish_directory(directory, {"train": shards}, *overrides)
    return directory


def rules_of(directory: Path) -> MaskingRules:
    rules = dynamic_masking(read_manifest(directory))
    assert rules is not None
    return rules


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[str]], Path]:
    """Packed dynamic shards per kind of masking, written once."""
    made: dict[str, Path] = {}

    def get(kind: list[str]) -> Path:
        name = "-".join(kind)
        if name not in made:
            directory = tmp_path_factory.mktemp("shards") / "dynamic"
            made[name] = write_directory(directory, DYNAMIC, "sequence.packing=best_fit", *kind)
        return made[name]

    return get


def test_the_rules_are_those_of_the_manifest(directories: Callable[[list[str]], Path]) -> None:
    rules = rules_of(directories(KINDS[3]))
    assert (rules.masked_lm_prob, rules.max_predictions_per_seq) == (0.15, 10)
    assert (rules.whole_word, rules.max_ngram) == (True, 3)
    assert (rules.vocabulary.size, rules.vocabulary.mask_id) == (60, TOKENIZER.mask_id)
    assert sorted(rules.vocabulary.special_ids) == [0, 1, 2, 3, 4]


def test_shards_with_masks_have_none_to_draw(tmp_path: Path) -> None:
    assert dynamic_masking(read_manifest(write_directory(tmp_path / "static", documents=4))) is None


def places(rows: Iterable[int], *, seed: int = 0) -> list[Place]:
    return [Place(seed, 0, 0, row) for row in rows]


def measures(block: Block) -> dict[str, np.ndarray]:
    """Return what masks are like, each [instances, measures]: the mean over many instances is a rate."""
    is_masked = np.zeros(block.num_tokens, dtype=bool)
    is_masked[masked_tokens(block)] = True
    seen, wanted = block.input_ids, original_ids(block)
    lengths = block.instance_lengths.astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    places = np.arange(block.num_tokens) - np.repeat(starts, lengths)
    begins_run = is_masked & ~np.concatenate(([False], is_masked[:-1]))
    run_length = np.diff(np.flatnonzero(np.diff(np.concatenate(([False], is_masked, [False])))))[::2]

    def per_instance(flags: np.ndarray) -> np.ndarray:
        return np.add.reduceat(flags.astype(np.int64), starts)

    run_starts = np.flatnonzero(begins_run)
    runs = [np.isin(np.arange(block.num_tokens), run_starts[run_length == size]) for size in (1, 2, 3, 4)]
    ninths = [is_masked & (places * 9 // np.repeat(lengths, lengths) == part) for part in range(9)]
    shown = [
        is_masked & (seen == TOKENIZER.mask_id),
        is_masked & (seen == wanted),
        is_masked & (seen != TOKENIZER.mask_id) & (seen != wanted),
    ]
    columns = {"masked": [is_masked], "shown as": shown, "place": ninths, "run of masks": runs}
    return {name: np.stack([per_instance(flags) for flags in parts], axis=1) for name, parts in columns.items()}


@pytest.mark.parametrize("kind", KINDS, ids=["tokens", "words", "n-grams", "n-grams of words"])
def test_dynamic_masks_are_like_static_ones(tmp_path: Path, kind: list[str]) -> None:
    """Of the same instances: masks, what they show, where they are and how long, all rates within 4 sigma."""
    static = read_all(write_directory(tmp_path / "static", *kind))
    directory = write_directory(tmp_path / "dynamic", DYNAMIC, *kind)
    plain = read_all(directory)
    np.testing.assert_array_equal(plain.input_ids, original_ids(static))
    drawn = draw_masks(plain, rules_of(directory), places(range(plain.num_sequences)))
    assert {name for name in ("masked_lm_ids", "word_starts") if getattr(drawn, name) is None} == {"word_starts"}
    ours, theirs = measures(drawn), measures(static)
    for name in ours:
        difference = (ours[name] - theirs[name]).astype(float)  # instance by instance, so their lengths cancel out
        sigma = difference.std(axis=0) / np.sqrt(len(difference))
        assert (np.abs(difference.mean(axis=0)) <= 4 * sigma).all(), name
    assert (ours["shown as"].sum(axis=0) > 0).all()


@settings(max_examples=30)
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_a_sequence_gets_the_same_masks_whatever_lies_beside_it(
    directories: Callable[[list[str]], Path], data: st.DataObject, kind: list[str]
) -> None:
    directory = directories(kind)
    rules, block = rules_of(directory), read_all(directory)
    rows = np.array(data.draw(st.lists(st.integers(0, 60), min_size=1, max_size=12, unique=True)))
    together = draw_masks(block.take(rows), rules, places(rows.tolist()))
    for number, row in enumerate(rows.tolist()):
        assert_same(together.take(np.array([number])), draw_masks(block.take(np.array([row])), rules, places([row])))


@pytest.mark.parametrize("changes", [{"seed": 1}, {"shard": 1}, {"block": 1}, {"row": 1}])
def test_every_part_of_a_place_decides(directories: Callable[[list[str]], Path], changes: dict[str, int]) -> None:
    directory = directories(KINDS[0])
    rules, sequence = rules_of(directory), read_all(directory).take(np.array([0]))
    here = Place(0, 0, 0, 0)
    one, other = (draw_masks(sequence, rules, [place]) for place in (here, here._replace(**changes)))
    assert one.masked_lm_positions.tolist() != other.masked_lm_positions.tolist()


def assert_same(left: Block, right: Block) -> None:
    for name in ("input_ids", "instance_lengths", "masked_lm_counts", "masked_lm_positions", "masked_lm_ids"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


def test_masks_where_there_are_some_and_words_without_starts_are_refused(
    directories: Callable[[list[str]], Path],
) -> None:
    directory = directories(KINDS[1])
    rules, block = rules_of(directory), read_all(directory).take(np.arange(3))
    masked = draw_masks(block, rules, places(range(3)))
    with pytest.raises(ValueError, match=r"holds masks, but its manifest says masking\.kind=dynamic"):
        draw_masks(masked, rules, places(range(3)))
    with pytest.raises(ValueError, match=r"no word_starts, which masking\.whole_word needs"):
        draw_masks(replace(block, word_starts=None), rules, places(range(3)))


STREAMS = 6


def prepared(
    directory: Path,
    step: int,
    *,
    ranks: tuple[int, int] = (0, 1),
    num_streams: int = STREAMS,
    global_batch_size: int = 24,
    micro_batch_size: int = 4,
    seed: int = 3,
    phase: int = 0,
    **rules: float,
) -> tuple[list[WeightedBatch], StepCounts]:
    """Return the micro-batches of one of `ranks` (rank, world size) that count, and its counts."""
    manifest = read_manifest(directory)
    shards = manifest.splits["train"]
    sizes = tuple(shard.sequences for shard in shards)
    order = PhaseOrder(
        seed=seed, phase=phase, shard_sequences=sizes, num_streams=num_streams, global_batch_size=global_batch_size
    )
    rank, world_size = ranks
    batches, counts = prepare_step(
        order,
        BlockReader(ShardDirectory(str(directory)), shards, num_streams),
        Ranks(rank=rank, world_size=world_size, device=torch.device("cpu"), **dict.fromkeys(GROUPS)),
        step=step,
        micro_batch_size=micro_batch_size,
        masking=replace(rules_of(directory), **rules),
    )
    return [item for item in batches if item.weight], counts


def by_stream(batches: list[WeightedBatch]) -> dict[int, tuple[list[int], list[int]]]:
    """Return what each stream shows and what it asks for, put together from its micro-batches."""
    streams: dict[int, tuple[list[int], list[int]]] = {}
    for batch, _, stream, _ in batches:
        shown, wanted = streams.setdefault(stream, ([], []))
        shown += batch.input_ids.tolist()
        wanted += batch.masked_lm_ids.tolist()
    return streams


def test_a_step_is_masked_the_same_for_any_micro_batch_size_and_number_of_ranks(
    directories: Callable[[list[str]], Path],
) -> None:
    directory = directories(KINDS[3])
    for step in (0, 1, 30):
        batches, counts = prepared(directory, step)
        whole = by_stream(batches)
        assert len(whole) == STREAMS
        for size in (1, 2):
            cut, same_counts = prepared(directory, step, micro_batch_size=size)
            assert (by_stream(cut), same_counts) == (whole, counts)
        for world_size in (2, 4):
            parts = [prepared(directory, step, ranks=(rank, world_size)) for rank in range(world_size)]
            assert {stream: part for own, _ in parts for stream, part in by_stream(own).items()} == whole
            assert sum(part.masked_tokens for _, part in parts) == counts.masked_tokens
            hashes = np.array([part.sequence_hash for _, part in parts], dtype=np.int64)
            assert int(hashes.sum()) == counts.sequence_hash


def test_the_hash_of_a_step_tells_its_masks(directories: Callable[[list[str]], Path]) -> None:
    directory = directories(KINDS[0])
    _, counts = prepared(directory, 2)
    _, others = prepared(directory, 2, masked_lm_prob=0.14)
    assert counts.tokens == others.tokens
    assert counts.sequence_hash != others.sequence_hash


def masks_of_epoch(directory: Path, epoch: int, **changes: int) -> dict[tuple[int, ...], tuple[int, ...]]:
    """Return the masked positions of every sequence of an epoch, by its original ids: a step is an epoch here."""
    size = read_manifest(directory).num_sequences("train")
    batches, _ = prepared(directory, epoch, num_streams=1, global_batch_size=size, micro_batch_size=1, **changes)
    masks = {}
    for item in batches:
        ids = item.batch.input_ids.clone()
        ids[item.batch.masked_positions] = item.batch.masked_lm_ids
        masks[tuple(ids.tolist())] = tuple(item.batch.masked_positions.tolist())
    assert len(masks) == size
    return masks


def test_another_epoch_phase_or_seed_gives_the_same_sequences_other_masks(
    directories: Callable[[list[str]], Path],
) -> None:
    directory = directories(KINDS[0])
    first = masks_of_epoch(directory, 0)
    assert masks_of_epoch(directory, 0) == first
    for other in (
        masks_of_epoch(directory, 1),
        masks_of_epoch(directory, 0, phase=1),
        masks_of_epoch(directory, 0, seed=4),
    ):
        assert other.keys() == first.keys()
        same = sum(other[ids] == positions for ids, positions in first.items())
        assert same < 0.02 * len(first)  # the shortest sequences have few masks to choose
