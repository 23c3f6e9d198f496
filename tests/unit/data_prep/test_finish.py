from pathlib import Path

import pytest

from data_prep.corpus import CorpusFile
from data_prep.corpus_config import CorpusFormat
from data_prep.finish import check_skipped, describe_corpus, list_skipped, remove_leftovers
from data_prep.manifest import Manifest, ShardInfo, TokenizerInfo
from data_prep.scatter import ScatterWriter
from tests.unit.data_prep.example_corpus import SKIP, corpus_config


def corpus_files(*paths: str) -> list[CorpusFile]:
    return [CorpusFile(path=path, size=len(path.rpartition("/")[2]), version="any") for path in paths]


def test_a_corpus_is_the_same_after_a_move_and_another_after_a_change() -> None:
    before = describe_corpus(corpus_files("/old/place/a.txt", "/old/place/deep/b.txt"))
    assert before == describe_corpus(corpus_files("/new/a.txt", "/new/deep/b.txt"))
    assert (before["files"], before["bytes"]) == (2, 10)
    assert before != describe_corpus(corpus_files("/new/a.txt", "/new/deep/c.txt"))
    assert before != describe_corpus(corpus_files("/new/a.txt", "/new/deep/b.txt", "/new/deep/c.txt"))


def test_a_corpus_of_urls_and_local_files_is_described() -> None:
    assert describe_corpus(corpus_files("/local/a.txt", "s3://bucket/b.txt"))["files"] == 2


def shard(name: str) -> ShardInfo:
    zeros = dict.fromkeys(("blocks", "sequences", "instances", "tokens", "masked_tokens", "bytes", "index_bytes"), 0)
    return ShardInfo(name=name, sha256="", index_sha256="", **zeros)


def test_only_unlisted_files_with_a_shards_name_are_removed(tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / ".vocab.txt.17.tmp").touch()
    kept = ["train-000-00000-000.tar", "train-000-00000-000.index.npy", "manifest.json", "my-own.tar", ".my-own.17.tmp"]
    stale = ["train-001-00000-000.tar", "held_out-000-00000-000.index.npy", ".train-001-00000-000.tar.4711.tmp"]
    stale += ["train-1000-123456-1000.tar", ".manifest.json.4711.tmp"]
    for name in [*kept, *stale]:
        (tmp_path / name).touch()
    manifest = Manifest(
        format_version=1,
        tokenizer=TokenizerInfo(
            directory="tokenizer", sha256="", vocab_size=5, pad_id=0, cls_id=2, sep_id=3, mask_id=4, unk_id=1
        ),
        max_seq_length=32,
        block_size=8,
        column_dtypes={},
        config={},
        statistics={},
        splits={"train": [shard(kept[0])]},
    )
    remove_leftovers(tmp_path, manifest)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "tokenizer"])
    assert list((tmp_path / "tokenizer").iterdir()) == []


def test_the_first_20_places_of_all_tasks_are_listed(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(4)]
    for number, path in enumerate(paths):
        with ScatterWriter(path, 1, vocab_size=100) as writer:
            writer.skipped = [f"{number}, line {line}: not_json" for line in range(9)]
    wanted = [f"{number}, line {line}: not_json" for number in range(3) for line in range(9)][:20]
    assert list_skipped(paths) == wanted


def test_kept_work_that_left_something_out_serves_only_who_asks_for_it() -> None:
    places = ["/corpus/a.jsonl, line 3: not_json"]
    check_skipped(corpus_config(CorpusFormat.jsonl), [])
    check_skipped(corpus_config(CorpusFormat.jsonl, on_error=SKIP), places)
    with pytest.raises(ValueError, match=r"corpus\.on_error=raise.*first /corpus/a\.jsonl, line 3: not_json; mend it"):
        check_skipped(corpus_config(CorpusFormat.jsonl), places)
