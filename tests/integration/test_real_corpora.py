"""Real English and Chinese text through the whole command: what the documents promise of it."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data_prep.__main__ import main
from data_prep.audit import audit_directory
from data_prep.audit import main as audit
from data_prep.manifest import TRAIN, read_manifest
from data_prep.shard_reader import read_block, read_index


def sample(shared_data: Path, name: str, folder: Path, size: int) -> Path:
    """Write documents of a corpus, spread over it, of about `size` bytes in all; return their folder."""
    lines = (shared_data / "corpora" / name / "docs.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"][:20_000] for line in lines]
    step = max(1, sum(len(text.encode()) for text in texts) // size)
    folder.mkdir(parents=True)
    chosen = "".join(json.dumps({"text": text}) + "\n" for text in texts[::step])
    (folder / "docs.jsonl").write_text(chosen, encoding="utf-8")
    return folder


def test_packed_sequences_of_wikipedia_are_99_percent_real_tokens(shared_data: Path, tmp_path: Path) -> None:
    vocabulary = shared_data / "reference" / "vocab" / "bert-base-uncased-vocab.txt"
    keys = [f"output_dir={tmp_path / 'shards'}", f"corpus.paths=[{shared_data / 'corpora' / 'en_mlperf_wiki_dev'}]"]
    keys += ["corpus.format=jsonl", f"tokenizer.vocab_file={vocabulary}", "dupe_factor=1"]
    assert main([*keys, "sequence.max_seq_length=512", "sequence.packing=best_fit"]) == 0
    statistics, faults = audit_directory(tmp_path / "shards", read_manifest(tmp_path / "shards"))
    assert not faults
    assert statistics[TRAIN].summary()["fill"] >= 0.99


def test_chinese_words_of_both_corpora_are_masked_whole(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jieba", reason="pip install 'lambert-pretraining[chinese]'")
    names = ("zh_classic_novels", "zh_python_docs")
    sources = [
        f"{{name: {name}, weight: 1, paths: [{sample(shared_data, name, tmp_path / name, 400_000)}]}}" for name in names
    ]
    keys = [f"output_dir={tmp_path / 'shards'}", f"corpus.sources=[{', '.join(sources)}]", "corpus.format=jsonl"]
    keys += ["sentences.language=zh", "sentences.word_segmenter=jieba", "masking.whole_word=true", "dupe_factor=1"]
    vocabulary = shared_data / "reference" / "vocab" / "bert-base-chinese-vocab.txt"
    assert main([*keys, f"tokenizer.vocab_file={vocabulary}"]) == 0
    assert audit([str(tmp_path / "shards")]) == 0
    assert "all checksums and invariants hold" in capsys.readouterr().out
    manifest = read_manifest(tmp_path / "shards")
    shares = [manifest.statistics["sources"][name]["train_token_share"] for name in names]
    assert shares == pytest.approx([0.5, 0.5], abs=0.05)
    assert share_of_masks_with_a_masked_neighbour(tmp_path / "shards") > 0.5, "alone, 15 % masks give 28 %"


def share_of_masks_with_a_masked_neighbour(directory: Path) -> float:
    """Return how many masked tokens of the train split have another right before or after them."""
    neighboured = masks = 0
    for shard in read_manifest(directory).splits[TRAIN]:
        tar = directory / shard.name
        with tar.open("rb") as file:
            for entry in read_index(tar):
                _, block = read_block(file, entry)
                assert block.masked_lm_positions is not None
                assert block.masked_lm_counts is not None
                stops = [0, *np.cumsum(block.masked_lm_counts)]
                for start, stop in pairwise(stops):
                    positions = block.masked_lm_positions[start:stop].astype(int)
                    near = np.diff(positions) == 1
                    neighboured += int((np.append(near, False) | np.append(False, near)).sum())
                    masks += len(positions)
    return neighboured / masks
