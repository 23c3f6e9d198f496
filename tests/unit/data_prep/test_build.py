import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer

from data_prep.block_checks import original_ids
from data_prep.build import build_bucket, sort_and_deduplicate
from data_prep.manifest import TokenizerInfo
from data_prep.shard_format import Block, column_dtypes
from data_prep.shard_reader import read_block, read_index
from data_prep.shard_writer import write_shards
from data_prep.tokenized import TokenizedDocuments, take_documents
from tests.unit.data_prep.example_documents import (
    FIRST_ORDINARY_ID,
    documents_of,
    documents_strategy,
    prose_like_documents,
    wikipedia_documents,
)
from tests.unit.data_prep.example_shards import build, data_prep_config, read_all


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@settings(max_examples=60)
@given(documents_strategy(), st.data())
def test_taken_documents_are_those_of_a_loop(documents: TokenizedDocuments, data: st.DataObject) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, len(documents.ids) - 1), max_size=10)), dtype=int)
    sentences = np.split(documents.sentence_lengths, np.cumsum(documents.document_sentences)[:-1])
    stops = np.cumsum([part.sum(dtype=int) for part in sentences], dtype=int)[:-1]
    tokens, words = np.split(documents.token_ids, stops), np.split(documents.word_starts, stops)
    taken = take_documents(documents, rows)
    assert taken.ids.tolist() == [documents.ids[row].item() for row in rows]
    assert taken.sentence_lengths.tolist() == [length for row in rows for length in sentences[row].tolist()]
    assert taken.token_ids.tolist() == [token for row in rows for token in tokens[row].tolist()]
    assert taken.word_starts.tolist() == [word for row in rows for word in words[row].tolist()]
    assert taken.document_sentences.tolist() == [len(sentences[row]) for row in rows]


@settings(max_examples=60)
@given(documents_strategy(), st.data())
def test_documents_are_sorted_by_id_and_duplicates_dropped(documents: TokenizedDocuments, data: st.DataObject) -> None:
    count = len(documents.ids)
    rows = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=20))
    once, dropped = sort_and_deduplicate(take_documents(documents, np.array(rows)))
    assert [one.tobytes() for one in once.ids] == sorted({documents.ids[row].tobytes() for row in rows})
    assert dropped == len(rows) - len(once.ids)


def test_ids_that_differ_in_their_last_byte_only_or_end_in_zeros_are_different() -> None:
    documents = documents_of([[3], [4], [5]])
    raw = [b"\0" * 15 + b"\1", b"\0" * 16, b"\1" + b"\0" * 15]
    ids = np.frombuffer(b"".join(raw), dtype="V16")
    once, dropped = sort_and_deduplicate(replace(documents, ids=ids))
    assert dropped == 0
    assert once.sentence_lengths.tolist() == [4, 3, 5]


def test_the_bytes_do_not_depend_on_the_order_of_documents_or_on_duplicates(tmp_path: Path) -> None:
    documents = prose_like_documents(30)
    shuffled = take_documents(documents, np.random.default_rng(0).permutation(np.append(np.arange(30), [3, 3, 7])))
    first = build(documents, tmp_path / "a", "shards.shard_bytes=20000")
    second = build(shuffled, tmp_path / "b", "shards.shard_bytes=20000")
    assert len(first.shards) > 1
    assert first.shards == second.shards
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert second.statistics == first.statistics | {"duplicate_documents": 3}


@pytest.mark.parametrize("change", [{"copy": 1}, {"bucket": 1}, {"split": "held_out"}, {"seed": 1}])
def test_other_copies_buckets_splits_and_seeds_draw_anew(tmp_path: Path, change: dict[str, int | str]) -> None:
    documents = prose_like_documents(10)
    build(documents, tmp_path / "a")
    overrides = [f"seed={change.pop('seed')}"] if "seed" in change else []
    build(documents, tmp_path / "b", *overrides, **change)  # type: ignore[arg-type]
    one, other = read_all(tmp_path / "a"), read_all(tmp_path / "b")
    assert one.num_tokens != other.num_tokens or (one.input_ids != other.input_ids).any()


def test_names_tell_split_copy_bucket_and_part(tmp_path: Path) -> None:
    result = build(prose_like_documents(30), tmp_path, "shards.shard_bytes=20000", split="held_out", copy=3, bucket=42)
    assert [shard.name for shard in result.shards[:2]] == ["held_out-003-00042-000.tar", "held_out-003-00042-001.tar"]
    expected = {name for shard in result.shards for name in (shard.name, shard.name.replace(".tar", ".index.npy"))}
    assert set(files_of(tmp_path)) == expected
    assert all(20_000 <= shard.bytes < 60_000 for shard in result.shards[:-1])


def test_shards_hold_what_the_result_says(tmp_path: Path) -> None:
    result = build(prose_like_documents(30), tmp_path, "shards.shard_bytes=20000")
    block = read_all(tmp_path)
    sums = {
        name: sum(getattr(shard, name) for shard in result.shards)
        for name in ("sequences", "instances", "tokens", "masked_tokens")
    }
    assert sums == {
        "sequences": block.num_sequences,
        "instances": block.num_instances,
        "tokens": block.num_tokens,
        "masked_tokens": block.num_masked,
    }
    assert all(result.statistics[name] == count for name, count in sums.items())
    for shard in result.shards:
        sizes = read_index(tmp_path / shard.name)["sequences"]
        assert (sizes[:-1] == 16).all()
        assert len(sizes) == shard.blocks


def test_statistics_account_for_every_token(tmp_path: Path) -> None:
    documents = documents_of([[1], [30, 200, 1], [5, 5], [70] * 20, [12] * 30], word_start_share=0.3)
    counts = build(documents, tmp_path).statistics
    assert counts["tokens_in_documents"] == len(documents.token_ids)
    text_tokens = counts["tokens"] - 3 * counts["instances"]
    unseen = counts["tokens_truncated"] + counts["tokens_unused"]
    assert text_tokens - counts["tokens_borrowed"] + unseen == counts["tokens_in_documents"]
    assert counts["documents"] == 5
    assert counts["sentences"] == 56
    assert counts["sentences_split"] == 21


def test_a_bucket_without_documents_makes_no_shard(tmp_path: Path) -> None:
    empty = take_documents(prose_like_documents(2), np.zeros(0, dtype=int))
    result = build(empty, tmp_path)
    assert result.shards == []
    assert files_of(tmp_path) == {}
    assert not any(result.statistics.values())


def test_a_plain_webdataset_pipeline_reads_the_same_columns(tmp_path: Path) -> None:
    result = build(prose_like_documents(10), tmp_path)
    path = tmp_path / result.shards[0].name
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False).decode())
    assert len(samples) == result.shards[0].blocks
    with path.open("rb") as file:
        for sample, entry in zip(samples, read_index(path), strict=True):
            key, block = read_block(file, entry)
            assert sample["__key__"] == key
            columns = {name: column for name, column in sample.items() if not name.startswith("__")}
            assert set(columns) == {
                f"{name}.npy"
                for name in (
                    "input_ids", "instance_lengths", "segment_a_lengths", "sequence_instances", "masked_lm_counts",
                    "masked_lm_positions", "masked_lm_ids", "next_sentence_labels",
                )
            }  # fmt: skip
            for name, column in columns.items():
                np.testing.assert_array_equal(column, getattr(block, name.removesuffix(".npy")))


@pytest.mark.parametrize("whole_word", [False, True])
def test_shards_for_dynamic_masks_are_the_static_ones_before_masking(tmp_path: Path, whole_word: bool) -> None:
    documents, words = prose_like_documents(10), f"masking.whole_word={whole_word}"
    build(documents, tmp_path / "static", words)
    result = build(documents, tmp_path / "dynamic", words, "masking.kind=dynamic")
    static, dynamic = read_all(tmp_path / "static"), read_all(tmp_path / "dynamic")
    np.testing.assert_array_equal(dynamic.input_ids, original_ids(static))
    for name in ("instance_lengths", "segment_a_lengths", "sequence_instances", "next_sentence_labels"):
        np.testing.assert_array_equal(getattr(dynamic, name), getattr(static, name))
    assert (dynamic.masked_lm_counts, dynamic.masked_lm_positions, dynamic.masked_lm_ids) == (None, None, None)
    assert result.statistics["masked_tokens"] == 0
    assert static.word_starts is None
    assert (dynamic.word_starts is not None) == whole_word
    if dynamic.word_starts is not None:
        assert 0.6 < dynamic.word_starts.mean() < 0.8  # 0.7 in the documents
        assert dynamic.word_starts[dynamic.input_ids < FIRST_ORDINARY_ID].all()


def test_leftovers_of_a_crash_are_replaced(tmp_path: Path) -> None:
    build(prose_like_documents(10), tmp_path / "clean")
    dirty = tmp_path / "dirty"
    dirty.mkdir()
    for name in (
        "train-000-00000-000.tar",
        f".train-000-00000-000.tar.{os.getpid()}.tmp",
        "train-000-00000-000.index.npy",
    ):
        (dirty / name).write_bytes(b"half a shard" * 100_000)
    build(prose_like_documents(10), dirty)
    assert files_of(dirty) == files_of(tmp_path / "clean")


@contextmanager
def small_files() -> Iterator[None]:
    """Let no file of this process grow over 20 kB: writing more fails, as on a full disk.

    Not a fixture: those end after pytest has printed the test's outcome, to a file that may be longer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_names_the_file_and_the_remedy_and_leaves_nothing(tmp_path: Path) -> None:
    full_disk = pytest.raises(OSError, match=r"cannot write .*train-000-00000-000\.tar.*: .*; make room")
    with full_disk as caught, small_files():
        build(prose_like_documents(30), tmp_path)
    assert caught.value.errno == errno.EFBIG
    assert files_of(tmp_path) == {}


def test_a_full_disk_keeps_the_shards_before_it(tmp_path: Path) -> None:
    documents = prose_like_documents(30)
    build(documents, tmp_path / "small", "shards.shard_bytes=9000")
    whole = files_of(tmp_path / "small")
    (tmp_path / "full").mkdir()
    blocked = tmp_path / "full" / f".train-000-00000-002.tar.{os.getpid()}.tmp"
    blocked.symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"train-000-00000-002\.tar.*No space left on device") as caught:
        build(documents, tmp_path / "full", "shards.shard_bytes=9000")
    assert caught.value.errno == errno.ENOSPC
    kept = files_of(tmp_path / "full")
    assert sorted(kept) == [f"train-000-00000-00{part}.{kind}" for part in (0, 1) for kind in ("index.npy", "tar")]
    assert all(whole[name] == data for name, data in kept.items())


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    block = Block(
        input_ids=np.array([2, 3]), instance_lengths=np.array([2]), segment_a_lengths=np.array([2]),
        sequence_instances=np.array([1]),
    )  # fmt: skip
    with pytest.raises(OSError, match=r"cannot write .*absent"):
        write_shards([block], tmp_path / "absent", "train", column_dtypes(60, 64), 1000)


def test_real_text_comes_back_from_the_shards(shared_data: Path, tmp_path: Path) -> None:
    vocabulary = shared_data / "reference" / "vocab" / "bert-base-uncased-vocab.txt"
    tokenizer = BertWordPieceTokenizer(str(vocabulary))
    documents = wikipedia_documents(shared_data, tokenizer, 12)
    info = TokenizerInfo(
        directory="tokenizer", sha256="", vocab_size=30522, pad_id=0, cls_id=101, sep_id=102, mask_id=103, unk_id=100
    )
    result = build_bucket(
        documents, split="train", copy=0, bucket=0, config=data_prep_config("sequence.max_seq_length=128"),
        tokenizer=info, output_dir=tmp_path, per_copy=np.ones(1),
    )  # fmt: skip
    block = read_all(tmp_path)
    assert abs(result.statistics["random_pairs"] / block.num_instances - 0.5) < 4 * 0.5 / block.num_instances**0.5
    # Every instance's A, and every following B right after it, is a piece of the running text of the corpus.
    running_text = " ".join(map(str, documents.token_ids.tolist()))
    ids = np.split(original_ids(block), np.cumsum(block.instance_lengths, dtype=int)[:-1])
    assert block.next_sentence_labels is not None
    for row in range(0, block.num_instances, 7):
        a_length = int(block.segment_a_lengths[row])
        a, b = ids[row][1 : a_length - 1], ids[row][a_length:-1]
        pieces = [np.concatenate((a, b))] if block.next_sentence_labels[row] == 0 else [a, b]
        for piece in pieces:
            assert " ".join(map(str, piece.tolist())) in running_text
