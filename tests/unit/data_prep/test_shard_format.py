import io
import tarfile
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.shard_format import (
    INDEX_DTYPE,
    Block,
    checksum,
    column_dtypes,
    concatenate_blocks,
    decode_block,
    decode_index,
    encode_block,
    encode_index,
    index_name,
    ragged_indices,
)

VOCAB_SIZE, MAX_SEQ_LENGTH = 500, 128
DTYPES = column_dtypes(VOCAB_SIZE, MAX_SEQ_LENGTH)


def random_block(
    seed: int, num_sequences: int, *, masks: bool = True, words: bool = True, labels: bool = True
) -> Block:
    rng = np.random.default_rng(seed)
    per_sequence = rng.integers(1, 4, size=num_sequences)
    lengths = rng.integers(5, 30, size=per_sequence.sum())
    tokens = int(lengths.sum())
    counts = rng.integers(0, 4, size=len(lengths))
    positions = [
        np.sort(rng.choice(length, count, replace=False)) for length, count in zip(lengths, counts, strict=True)
    ]
    return Block(
        input_ids=rng.integers(VOCAB_SIZE, size=tokens),
        instance_lengths=lengths,
        segment_a_lengths=rng.integers(3, lengths - 1),
        sequence_instances=per_sequence,
        masked_lm_counts=counts if masks else None,
        masked_lm_positions=np.concatenate(positions) if masks else None,
        masked_lm_ids=rng.integers(VOCAB_SIZE, size=counts.sum()) if masks else None,
        word_starts=rng.random(tokens) < 0.5 if words else None,
        next_sentence_labels=rng.integers(2, size=len(lengths)) if labels else None,
    )


blocks = st.builds(
    random_block,
    st.integers(0, 10_000),
    st.integers(1, 9),
    masks=st.booleans(),
    words=st.booleans(),
    labels=st.booleans(),
)


def assert_same(left: Block, right: Block) -> None:
    for field in fields(Block):
        one, other = getattr(left, field.name), getattr(right, field.name)
        assert (one is None) == (other is None), field.name
        if one is not None:
            np.testing.assert_array_equal(one, other, err_msg=field.name)


def rows_by_a_loop(block: Block, rows: list[int]) -> Block:
    """The naive way: cut every column into rows, then join the wanted ones."""
    instance_rows = np.split(np.arange(block.num_instances), np.cumsum(block.sequence_instances)[:-1])
    instances = [int(instance) for row in rows for instance in instance_rows[row]]

    def pieces(column: np.ndarray | None, lengths: np.ndarray | None) -> np.ndarray | None:
        if column is None or lengths is None:
            return None
        parts = np.split(column, np.cumsum(lengths)[:-1])
        return np.concatenate([column[:0], *(parts[instance] for instance in instances)])

    ones = np.ones(block.num_instances, dtype=int)
    return Block(
        input_ids=pieces(block.input_ids, block.instance_lengths),
        instance_lengths=pieces(block.instance_lengths, ones),
        segment_a_lengths=pieces(block.segment_a_lengths, ones),
        sequence_instances=np.array([block.sequence_instances[row] for row in rows], dtype=int),
        masked_lm_counts=pieces(block.masked_lm_counts, ones),
        masked_lm_positions=pieces(block.masked_lm_positions, block.masked_lm_counts),
        masked_lm_ids=pieces(block.masked_lm_ids, block.masked_lm_counts),
        word_starts=pieces(block.word_starts, block.instance_lengths),
        next_sentence_labels=pieces(block.next_sentence_labels, ones),
    )


@settings(max_examples=50)
@given(blocks)
def test_a_block_survives_its_encoding(block: Block) -> None:
    decoded = decode_block(encode_block(block, "key", DTYPES))
    assert_same(block, decoded)
    assert decoded.input_ids.dtype == np.uint16
    assert decoded.instance_lengths.dtype == np.uint8


@settings(max_examples=50)
@given(blocks, st.lists(st.integers(0, 8), max_size=12))
def test_take_is_a_loop_over_rows(block: Block, wanted: list[int]) -> None:
    rows = [row for row in wanted if row < block.num_sequences]
    assert_same(block.take(np.array(rows, dtype=int)), rows_by_a_loop(block, rows))


@settings(max_examples=30)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=4), st.booleans())
def test_concatenated_blocks_give_back_their_rows(seeds: list[int], masks: bool) -> None:
    parts = [random_block(seed, 1 + seed % 5, masks=masks) for seed in seeds]
    whole = concatenate_blocks(parts)
    first = 0
    for part in parts:
        assert_same(whole.take(np.arange(first, first + part.num_sequences)), part)
        first += part.num_sequences
    assert whole.num_sequences == first


@settings(max_examples=50)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=20), st.data())
def test_ragged_indices_are_the_flat_places_of_the_rows(lengths: list[int], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=20))
    flat = np.split(np.arange(sum(lengths)), np.cumsum(lengths)[:-1])
    expected = [int(place) for row in rows for place in flat[row]]
    found = ragged_indices(np.array(lengths, dtype=np.uint8), np.array(rows, dtype=int))
    assert found.tolist() == expected


def test_lengths_add_up_beyond_their_own_dtype() -> None:
    lengths = np.full(1000, 255, dtype=np.uint8)
    assert ragged_indices(lengths, np.array([999]))[-1] == 255_000 - 1


def test_encoding_is_a_pure_function() -> None:
    assert encode_block(random_block(1, 4), "k", DTYPES) == encode_block(random_block(1, 4), "k", DTYPES)


def test_members_are_ordinary_npy_files_of_an_ordinary_tar() -> None:
    block = random_block(2, 3)
    with tarfile.open(fileobj=io.BytesIO(encode_block(block, "key", DTYPES) + b"\0" * 1024)) as tar:
        names = tar.getnames()
        file = tar.extractfile("key.input_ids.npy")
        assert file is not None
        np.testing.assert_array_equal(np.load(io.BytesIO(file.read())), block.input_ids)
    assert names == [f"key.{field.name}.npy" for field in fields(Block)]


def test_a_value_that_does_not_fit_is_refused_not_wrapped() -> None:
    block = random_block(3, 2)
    with pytest.raises(ValueError, match=r"instance_lengths has values outside uint8: .* to 256"):
        encode_block(
            Block(
                input_ids=block.input_ids,
                instance_lengths=np.array([256]),
                segment_a_lengths=np.array([3]),
                sequence_instances=np.array([1]),
            ),
            "key",
            DTYPES,
        )


def test_a_negative_value_is_refused() -> None:
    one = np.array([1])
    with pytest.raises(ValueError, match="input_ids has values outside uint16: -1"):
        encode_block(
            Block(input_ids=-one, instance_lengths=one, segment_a_lengths=one, sequence_instances=one), "key", DTYPES
        )


def test_a_key_with_a_dot_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'a\.b' must not contain a dot"):
        encode_block(random_block(0, 1), "a.b", DTYPES)


def test_a_truncated_block_never_gives_a_cut_column() -> None:
    # Whole optional columns may be lost between two members: that is for the index's length and crc32 to find.
    block = random_block(4, 3)
    data = encode_block(block, "key", DTYPES)
    num_refused = 0
    for length in range(0, len(data) - 512, 128):
        try:
            decoded = decode_block(data[:length])
        except ValueError:
            num_refused += 1
            continue
        for field in fields(Block):
            column = getattr(decoded, field.name)
            if column is not None:
                np.testing.assert_array_equal(column, getattr(block, field.name))
    assert num_refused > len(data) // 128 // 2


@settings(max_examples=50)
@given(st.binary(max_size=2000))
def test_garbage_is_no_block_and_no_index(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode_block(data)
    with pytest.raises(ValueError):
        decode_index(data)


def test_a_foreign_member_is_named() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("key.photo.npy"))
    with pytest.raises(ValueError, match=r"key\.photo\.npy"):
        decode_block(file.getvalue())


@pytest.mark.parametrize(
    ("vocab_size", "max_seq_length", "of_ids", "of_lengths"),
    [(256, 255, "uint8", "uint8"), (257, 256, "uint16", "uint16"), (65_537, 512, "uint32", "uint16")],
)
def test_dtypes_are_the_smallest_that_hold_the_limits(
    vocab_size: int, max_seq_length: int, of_ids: str, of_lengths: str
) -> None:
    dtypes = column_dtypes(vocab_size, max_seq_length)
    assert dtypes["input_ids"] == dtypes["masked_lm_ids"] == of_ids
    assert dtypes["instance_lengths"] == dtypes["masked_lm_positions"] == of_lengths
    assert set(dtypes) == {field.name for field in fields(Block)}


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(0, 2**62), st.integers(0, 2**40), st.integers(0, 2**31 - 1), st.integers(0, 2**32 - 1)),
        max_size=5,
    )
)
def test_an_index_survives_its_encoding(rows: list[tuple[int, int, int, int]]) -> None:
    index = decode_index(encode_index(rows))
    assert index.dtype == INDEX_DTYPE
    assert [tuple(row) for row in index.tolist()] == rows


def test_an_array_of_another_kind_is_no_index() -> None:
    data = io.BytesIO()
    np.save(data, np.arange(3))
    with pytest.raises(ValueError, match="not a block index: dtype int64"):
        decode_index(data.getvalue())


def test_a_flipped_bit_changes_the_checksum() -> None:
    data = bytearray(encode_block(random_block(5, 2), "key", DTYPES))
    before = checksum(bytes(data))
    data[700] ^= 1
    assert checksum(bytes(data)) != before


def test_the_index_lies_beside_its_tar() -> None:
    assert index_name("train-000-00000-000.tar") == "train-000-00000-000.index.npy"
