from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.scatter import ScatterWriter, read_bucket, read_counts, read_skipped
from data_prep.tokenized import TokenizedDocuments, concatenate_documents, take_documents

Rows = list[list[list[int]]]  # documents of sentences of token ids
ROWS = st.lists(st.lists(st.lists(st.integers(0, 999), min_size=1, max_size=5), min_size=1, max_size=4), max_size=12)


def tokenized(rows: Rows, first_id: int = 0) -> TokenizedDocuments:
    sentences = [sentence for row in rows for sentence in row]
    tokens = np.array([token for sentence in sentences for token in sentence], dtype=np.int64)
    ids = b"".join((first_id + number).to_bytes(16, "big") for number in range(len(rows)))
    return TokenizedDocuments(
        ids=np.frombuffer(ids, "V16"),
        sources=np.arange(first_id, first_id + len(rows)).astype(np.uint8),
        document_sentences=np.array([len(row) for row in rows], dtype=np.int64),
        sentence_lengths=np.array([len(sentence) for sentence in sentences], dtype=np.int64),
        token_ids=tokens,
        word_starts=tokens % 3 != 0,
    )


def as_rows(documents: TokenizedDocuments) -> dict[bytes, list[list[int]]]:
    tokens, lengths = documents.token_ids.tolist(), documents.sentence_lengths.tolist()
    assert documents.word_starts.tolist() == [token % 3 != 0 for token in tokens]
    assert documents.sources.tolist() == [identifier.tobytes()[-1] for identifier in documents.ids]
    rows: dict[bytes, list[list[int]]] = {}
    for identifier, count in zip(documents.ids, documents.document_sentences, strict=True):
        rows[identifier.tobytes()] = [[tokens.pop(0) for _ in range(lengths.pop(0))] for _ in range(count)]
    assert not tokens
    assert not lengths
    return rows


def write(path: Path, parts: list[Rows], num_buckets: int, segment_tokens: int = 10**6, first: int = 0) -> None:
    with ScatterWriter(path, num_buckets, vocab_size=1000, segment_tokens=segment_tokens) as writer:
        for rows in parts:
            writer.add(tokenized(rows, first), np.arange(first, first + len(rows)) % num_buckets)
            writer.count({"documents": len(rows)})
            first += len(rows)


@given(parts=st.lists(ROWS, max_size=4), num_buckets=st.integers(1, 5), segment_tokens=st.integers(1, 40))
@settings(max_examples=60)
def test_every_document_is_read_back_from_its_bucket(
    tmp_path_factory: pytest.TempPathFactory, parts: list[Rows], num_buckets: int, segment_tokens: int
) -> None:
    path = tmp_path_factory.mktemp("scatter") / "0.scatter"
    write(path, parts, num_buckets, segment_tokens)
    wanted = list(as_rows(tokenized([row for rows in parts for row in rows])).items())
    for bucket in range(num_buckets):
        assert list(as_rows(read_bucket([path], bucket)[0]).items()) == wanted[bucket::num_buckets]
    assert read_counts(path).get("documents", 0) == len(wanted)


def test_the_files_of_all_tasks_are_read_in_order(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / str(number), [[[[number]]]], 1, first=number)
    assert read_bucket([tmp_path / str(number) for number in range(3)], 0)[0].token_ids.tolist() == [0, 1, 2]


@given(parts=st.lists(ROWS, min_size=1, max_size=3), segment_tokens=st.integers(1, 40))
@settings(max_examples=30)
def test_a_document_met_again_is_dropped_and_counted(
    tmp_path_factory: pytest.TempPathFactory, parts: list[Rows], segment_tokens: int
) -> None:
    path = tmp_path_factory.mktemp("scatter") / "0.scatter"
    write(path, [*parts, []], 1, segment_tokens)
    once, none_dropped = read_bucket([path], 0)
    documents, num_dropped = read_bucket([path, path, path], 0)
    assert list(as_rows(documents).items()) == list(as_rows(once).items())
    assert (none_dropped, num_dropped) == (0, 2 * len(once.ids))


def test_a_document_twice_in_one_range_is_dropped_too(tmp_path: Path) -> None:
    rows = [[[1, 2], [3]], [[4]]]
    with ScatterWriter(tmp_path / "twice", 1, vocab_size=1000) as writer:
        writer.add(concatenate_documents([tokenized(rows), tokenized(rows)]), np.zeros(4, dtype=np.int64))
    documents, num_dropped = read_bucket([tmp_path / "twice"], 0)
    assert list(as_rows(documents).items()) == list(as_rows(tokenized(rows)).items())
    assert num_dropped == 2


def test_an_empty_task_has_empty_buckets(tmp_path: Path) -> None:
    write(tmp_path / "empty", [], 2)
    assert len(read_bucket([tmp_path / "empty"], 1)[0].ids) == 0
    assert len(read_bucket([], 0)[0].token_ids) == 0


def test_a_vocabulary_of_more_than_65536_keeps_its_ids(tmp_path: Path) -> None:
    with ScatterWriter(tmp_path / "wide", 1, vocab_size=100_000) as writer:
        writer.add(tokenized([[[99_999, 70_000]]]), np.array([0]))
    assert read_bucket([tmp_path / "wide"], 0)[0].token_ids.tolist() == [99_999, 70_000]


def test_the_places_of_what_was_left_out_are_read_back(tmp_path: Path) -> None:
    with ScatterWriter(tmp_path / "0", 1, vocab_size=1000) as writer:
        writer.count({"documents": 2})
        writer.count({"documents": 1, "skipped_documents": 1})
        writer.skipped = ["/corpus/ä.jsonl, line 3: not_json"]
    assert read_counts(tmp_path / "0") == {"documents": 3, "skipped_documents": 1}
    assert read_skipped(tmp_path / "0") == ["/corpus/ä.jsonl, line 3: not_json"]


def test_an_interrupted_task_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with ScatterWriter(tmp_path / "0", 1, vocab_size=1000, segment_tokens=1) as writer:
            writer.add(tokenized([[[1, 2]]]), np.array([0]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_cut_or_altered_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "0.scatter"
    with pytest.raises(ValueError, match=r"0\.scatter cannot be used: it is missing; delete it and run"):
        read_bucket([path], 0)
    write(path, [[[[1, 2, 3]]]], 1)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(ValueError, match="does not end as a scatter file does"):
        read_counts(path)
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(ValueError, match="bucket 0 of segment 0 does not match its checksum"):
        read_bucket([path], 0)


@given(ROWS)
@settings(max_examples=50)
def test_documents_are_taken_and_joined_as_lists_would_be(rows: Rows) -> None:
    documents = tokenized(rows)
    order = np.array(sorted(range(len(rows)), key=lambda row: (row * 7919) % 13), dtype=np.int64)
    wanted = list(as_rows(documents).items())
    taken = take_documents(documents, order)
    assert list(as_rows(taken).items()) == [wanted[row] for row in order]
    halves = [take_documents(documents, order[: len(order) // 2]), take_documents(documents, order[len(order) // 2 :])]
    assert list(as_rows(concatenate_documents(halves)).items()) == list(as_rows(taken).items())
