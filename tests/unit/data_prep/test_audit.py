import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_prep.accounting import rate_faults, tolerance
from data_prep.audit import audit_directory, main
from data_prep.audit_picture import draw_picture
from data_prep.audit_report import length_quantiles
from data_prep.block_checks import masked_tokens
from data_prep.manifest import MANIFEST_NAME, read_manifest, write_manifest
from data_prep.shard_format import Block, column_dtypes
from data_prep.shard_reader import read_block, read_index
from data_prep.shard_writer import write_shards
from tests.unit.data_prep.example_documents import documents_of, prose_like_documents
from tests.unit.data_prep.example_shards import build, data_prep_config, finish_directory

SHARD = "train-000-00000-001"


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished directory: two copies in several shards, and a held-out split."""
    overrides = ["shards.shard_bytes=15000"]
    train = [
        shard for copy in (0, 1) for shard in build(prose_like_documents(12), tmp_path, *overrides, copy=copy).shards
    ]
    held_out = build(prose_like_documents(3, seed=9), tmp_path, *overrides, split="held_out").shards
    finish_directory(tmp_path, {"train": train, "held_out": held_out}, *overrides)
    return tmp_path


def test_statistics_of_the_manifest_are_counted_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = build(prose_like_documents(5), tmp_path)
    finish_directory(tmp_path, {"train": result.shards}, statistics={"train": result.statistics})
    assert audit(tmp_path, capsys) == (0, [])
    count = result.statistics["random_pairs"]
    wrong = result.statistics | {"random_pairs": count + 1}
    finish_directory(tmp_path, {"train": result.shards}, statistics={"train": wrong})
    fault = f"train: {count} random_pairs in sound blocks, the manifest's statistics say {count + 1}"
    assert audit(tmp_path, capsys) == (1, [fault])


@pytest.mark.parametrize(
    ("name", "by", "fault"),
    [
        ("tokens_unused", 7, "tokens of documents in shards and .* truncated or unused are not the"),
        ("pairs_from_one_document", 1, "1 random pairs have A and B of the same document"),
    ],
)
@pytest.mark.parametrize("kind", ["nsp", "sop", "none"])
def test_tokens_that_the_counts_do_not_explain_are_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, name: str, by: int, fault: str
) -> None:
    overrides = [f"pairs.kind={kind}", "sequence.packing=best_fit"]
    result = build(prose_like_documents(40), tmp_path, *overrides)
    finish_directory(tmp_path, {"train": result.shards}, *overrides, statistics={"train": result.statistics})
    assert audit(tmp_path, capsys) == (0, [])
    wrong = result.statistics | {name: result.statistics.get(name, 0) + by}
    finish_directory(tmp_path, {"train": result.shards}, *overrides, statistics={"train": wrong})
    code, faults = audit(tmp_path, capsys)
    assert (code, len(faults)) == (1, 1)
    assert re.search(fault, faults[0])


@pytest.mark.parametrize("kind", ["nsp", "sop"])
def test_neighbours_that_do_not_touch_are_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    overrides = [f"pairs.kind={kind}"]
    result = build(prose_like_documents(40), tmp_path, *overrides)
    label = {"nsp": "random_pairs", "sop": "swapped_pairs"}[kind]
    in_order = result.statistics["instances"] - result.statistics[label]
    wrong = result.statistics | {"touching_pairs": in_order - 1}
    finish_directory(tmp_path, {"train": result.shards}, *overrides, statistics={"train": wrong})
    fault = f"train: {in_order - 1} pairs touch, where the shards hold {in_order} whose B follows A"
    assert audit(tmp_path, capsys) == (1, [fault])


def test_a_share_far_from_what_it_is_drawn_with_is_a_fault() -> None:
    pairs = data_prep_config().pairs
    found = {"instances": 10_000, "random_pairs": 5300, "masked_tokens": 10_000, "wanted_masks": 10_000}
    found |= {"shown_as_mask": 0.805, "shown_as_random": 0.1}
    assert list(rate_faults(pairs, {}, found)) == ["53.00% random pairs, further than 2.00% from 50%"]
    assert not list(rate_faults(pairs, {"instances_without_partner": -600}, found)), "10,600 of which half are random"
    assert list(
        rate_faults(pairs, {}, found | {"random_pairs": 5000, "shown_as_mask": 0.7, "wanted_masks": 13_000})
    ) == [
        "70.00% [MASK]s, further than 1.60% from 80%",
        "10000 masked tokens, where masked_lm_prob asks for 13000",
    ]
    assert tolerance(0.5, 10**9) == 0.01


@pytest.mark.parametrize("recipe", ["lambert", "google_research"])
@pytest.mark.parametrize("count", [1, 400])
def test_real_shards_of_either_recipe_have_no_fault_even_of_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recipe: str, count: int
) -> None:
    documents = prose_like_documents(400) if count > 1 else documents_of([[20] * 300])
    result = build(documents, tmp_path, f"pairs.recipe={recipe}")
    finish_directory(
        tmp_path, {"train": result.shards}, f"pairs.recipe={recipe}", statistics={"train": result.statistics}
    )
    assert audit(tmp_path, capsys) == (0, [])


def test_whole_words_that_are_hardly_masked_are_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = build(prose_like_documents(40), tmp_path, "masking.whole_word=true", "masking.masked_lm_prob=0.02")
    finish_directory(tmp_path, {"train": result.shards}, "masking.whole_word=true", "masking.masked_lm_prob=0.15")
    code, faults = audit(tmp_path, capsys)
    assert code == 1
    assert any("masked tokens, where masked_lm_prob asks for" in fault for fault in faults)


def test_shards_of_an_older_release_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = build(prose_like_documents(40), tmp_path)
    older = {name: count for name, count in result.statistics.items() if name != "tokens_taken"}
    manifest = finish_directory(tmp_path, {"train": result.shards}, statistics={"train": older})
    del manifest.config["pairs"]["recipe"]
    write_manifest(tmp_path, manifest)
    assert audit(tmp_path, capsys) == (0, [])


def test_the_picture_shows_every_split(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(finished), "--picture", str(finished / "audit.png")]) == 0
    assert (finished / "audit.png").read_bytes().startswith(b"\x89PNG")
    statistics, _ = audit_directory(finished, read_manifest(finished))
    panels = draw_picture(statistics).axes
    assert [panel.get_title().partition(":")[0] for panel in panels] == ["held_out", "held_out", "train", "train"]
    for lengths, masks, split in ((panels[0], panels[1], "held_out"), (panels[2], panels[3], "train")):
        assert sum(lengths.patches[0].get_data().values) == statistics[split].counts["instances"]
        shares = masks.lines[0].get_ydata()
        assert shares[0] == 0, "[CLS] is never masked"
        assert 0.1 < np.mean(shares[1:40]) < 0.2


@pytest.mark.parametrize("name", ["no/audit.png", "audit.foo"])
def test_a_picture_that_cannot_be_written_is_refused_first(
    finished: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main([str(finished), "--picture", str(finished / name)]) == 2
    captured = capsys.readouterr()
    assert (captured.out, name in captured.err) == ("", True)


def audit(directory: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = main([str(directory), "--json"])
    return code, json.loads(capsys.readouterr().out)["faults"]


def test_a_sound_directory_passes_and_its_statistics_are_those_of_the_manifest(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(finished), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert report["faults"] == []
    for split, shards in read_manifest(finished).splits.items():
        summary = report["splits"][split]
        assert summary["shards"] == len(shards)
        for name in ("blocks", "sequences", "instances", "tokens", "masked_tokens"):
            assert summary[name] == sum(getattr(shard, name) for shard in shards)
        assert 0.13 < summary["mask_rate"] < 0.16
        assert 0.7 < summary["shown_as_mask"] < 0.9
        shown = [summary[f"shown_as_{name}"] for name in ("mask", "random", "unchanged")]
        assert sum(shown) == pytest.approx(1)
        assert 0.2 < summary["random_pair_rate"] < 0.8


def test_the_text_report_has_the_verdict_and_the_rates(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(finished)]) == 0
    text = capsys.readouterr().out
    for words in ("train: ", "held_out: ", "random pairs", "shown as [MASK]", "all checksums and invariants hold"):
        assert words in text


def test_every_flipped_byte_is_found_and_its_block_named(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tar = finished / f"{SHARD}.tar"
    data = tar.read_bytes()
    index = read_index(tar)
    rng = np.random.default_rng(0)
    for place in rng.integers(0, int(index[-1]["offset"] + index[-1]["length"]), size=12):
        tar.write_bytes(data[:place] + bytes([data[place] ^ 8]) + data[place + 1 :])
        number = int(np.searchsorted(index["offset"], place, side="right")) - 1
        code, faults = audit(finished, capsys)
        assert code == 1
        assert any(fault.startswith(f"{SHARD}.tar: block {number}: crc32 is") for fault in faults)
        assert any("another sha256" in fault for fault in faults)


def test_a_flip_in_the_end_of_the_archive_is_found(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tar = finished / f"{SHARD}.tar"
    data = tar.read_bytes()
    tar.write_bytes(data[:-1] + b"x")
    assert audit(finished, capsys) == (
        1,
        [f"{SHARD}.tar: {SHARD}.tar is not the file the manifest describes (another sha256)"],
    )


def test_several_workers_say_what_one_says(finished: Path) -> None:
    shard = finished / f"{SHARD}.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    manifest = read_manifest(finished)
    alone, together = (audit_directory(finished, manifest, workers=workers) for workers in (1, 2))
    assert len(alone[1]) >= 1
    assert together[1] == alone[1]
    for split, statistics in alone[0].items():
        assert together[0][split].summary() == statistics.summary()
        assert together[0][split].masks.tolist() == statistics.masks.tolist()


def test_a_truncated_shard_is_found(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tar = finished / f"{SHARD}.tar"
    size = tar.stat().st_size
    tar.write_bytes(tar.read_bytes()[:-5000])
    code, faults = audit(finished, capsys)
    assert code == 1
    assert f"{SHARD}.tar: {SHARD}.tar has {size - 5000} bytes, the manifest says {size}" in faults
    assert any("the tar ends inside it" in fault for fault in faults)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (f"{SHARD}.tar", f"{SHARD}.tar: the tar is missing"),
        (f"{SHARD}.index.npy", f"{SHARD}.tar: {SHARD}.index.npy is missing"),
        ("tokenizer/tokenizer.json", "tokenizer/tokenizer.json: missing"),
    ],
)
def test_a_missing_file_is_named(finished: Path, capsys: pytest.CaptureFixture[str], name: str, fault: str) -> None:
    (finished / name).unlink()
    assert audit(finished, capsys) == (1, [fault])


def test_a_damaged_index_and_another_tokenizer_are_found(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (finished / f"{SHARD}.index.npy").write_bytes(b"no index")
    (finished / "tokenizer" / "tokenizer.json").write_text("{}")
    code, faults = audit(finished, capsys)
    assert code == 1
    assert any(fault.startswith("tokenizer/tokenizer.json: not the file") for fault in faults)
    assert any(f"{SHARD}.index.npy is damaged" in fault for fault in faults)


def test_an_index_of_other_places_is_found(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = finished / f"{SHARD}.index.npy"
    index = np.load(path)
    index["offset"][1] += 512
    np.save(path, index)
    code, faults = audit(finished, capsys)
    assert code == 1
    assert any("block 1: the index has it at byte" in fault for fault in faults)


def test_a_stray_shard_is_named(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (finished / "train-009-00000-000.tar").write_bytes(b"")
    (finished / ".train-009-00000-001.tar.4711.tmp").write_bytes(b"a crash left this, and no reader looks at it")
    code, faults = audit(finished, capsys)
    assert (code, len(faults)) == (1, 1)
    assert faults[0].startswith("train-009-00000-000.tar: not in the manifest")


def test_a_manifest_with_other_counts_is_found(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = read_manifest(finished)
    first, *rest = manifest.splits["train"]
    changed = replace(first, tokens=first.tokens + 1)
    write_manifest(finished, replace(manifest, splits=manifest.splits | {"train": [changed, *rest]}))
    found = f"{first.name}: {first.tokens} tokens in sound blocks, the manifest says {first.tokens + 1}"
    assert audit(finished, capsys) == (1, [found])


def test_an_unfinished_directory_is_one_clear_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert f"audit: {tmp_path} has no {MANIFEST_NAME}" in capsys.readouterr().err


def swap_first_label(block: Block) -> Block:
    assert block.next_sentence_labels is not None
    labels = block.next_sentence_labels.copy()
    labels[0] = 2
    return replace(block, next_sentence_labels=labels)


def change_token(block: Block, place: int, token: int) -> Block:
    ids = block.input_ids.copy()
    ids[place] = token
    return replace(block, input_ids=ids)


def change_unmasked_token(block: Block, token: int) -> Block:
    special = [0, int(block.segment_a_lengths[0]) - 1, int(block.instance_lengths[0]) - 1]
    free = np.setdiff1d(np.arange(int(block.instance_lengths[0])), [*special, *masked_tokens(block).tolist()])
    return change_token(block, int(free[0]), token)


def change_first(column: str, value: int) -> Callable[[Block], Block]:
    def change(block: Block) -> Block:
        changed = getattr(block, column).copy()
        changed[0] = value
        return replace(block, **{column: changed})

    return change


def mask_cls(block: Block) -> Block:
    assert block.masked_lm_ids is not None
    return change_token(change_first("masked_lm_ids", 2)(change_first("masked_lm_positions", 0)(block)), 0, 2)


def repeat_position(block: Block) -> Block:
    assert block.masked_lm_positions is not None
    positions = block.masked_lm_positions.copy()
    positions[1] = positions[0]
    return replace(block, masked_lm_positions=positions)


def drop_a_mask(block: Block) -> Block:
    assert block.masked_lm_counts is not None
    assert block.masked_lm_positions is not None
    assert block.masked_lm_ids is not None
    place = int(masked_tokens(block)[0])
    counts = block.masked_lm_counts.copy()
    counts[0] -= 1
    return replace(
        change_token(block, place, int(block.masked_lm_ids[0])),
        masked_lm_counts=counts,
        masked_lm_positions=block.masked_lm_positions[1:],
        masked_lm_ids=block.masked_lm_ids[1:],
    )


def join_two_rows(block: Block) -> Block:
    counts = np.concatenate(([2], block.sequence_instances[2:]))
    return replace(block, sequence_instances=counts)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (swap_first_label, "row 0: a next-sentence label other than 0 or 1"),
        (lambda block: change_token(block, 0, 9), "row 0: no [CLS] or [SEP] where one must be"),
        (lambda block: change_token(block, int(block.segment_a_lengths[0]) - 1, 9), "row 0: no [CLS] or [SEP]"),
        (lambda block: change_token(block, int(block.instance_lengths[0]) - 1, 2), "row 0: no [CLS] or [SEP]"),
        (lambda block: change_unmasked_token(block, 4), "row 0: a special token inside a segment"),
        (lambda block: change_unmasked_token(block, 60), "row 0: a token id outside the vocabulary of 60"),
        (lambda block: change_token(block, int(masked_tokens(block)[0]), 0), "row 0: a special token as random"),
        (mask_cls, "row 0: a masked special token"),
        (repeat_position, "row 0: masked positions that do not ascend"),
        (change_first("masked_lm_positions", 64), "row 0: a masked position outside its instance"),
        (change_first("masked_lm_ids", 1), "row 0: a masked special token"),
        (drop_a_mask, "row 0: fewer masks than masked_lm_prob asks for"),
        (change_first("segment_a_lengths", 2), "row 0: segment A or B is empty"),
        (change_first("segment_a_lengths", 64), "row 0: segment A or B is empty"),
        (join_two_rows, "row 0: longer than max_seq_length"),
        (lambda block: replace(block, next_sentence_labels=None), "column next_sentence_labels is missing"),
        (lambda block: replace(block, input_ids=block.input_ids[1:]), "column input_ids has"),
        (lambda block: replace(block, masked_lm_ids=block.masked_lm_ids[1:]), "column masked_lm_ids has"),
        (lambda block: replace(block, segment_a_lengths=block.segment_a_lengths[1:]), "column segment_a_lengths has"),
        (change_first("sequence_instances", 0), "a sequence has no instance"),
    ],
)
def test_each_broken_invariant_is_found_in_its_block(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Block], Block], fault: str
) -> None:
    [shard] = build(prose_like_documents(4), tmp_path / "sound").shards
    tar = tmp_path / "sound" / shard.name
    with tar.open("rb") as file:
        blocks = [read_block(file, entry)[1] for entry in read_index(tar)]
    (tmp_path / "broken").mkdir()
    blocks[1] = change(blocks[1])
    # Written anew with checksums that agree: only the content is wrong.
    shards = write_shards(blocks, tmp_path / "broken", "train", column_dtypes(60, 64), 10**9)
    finish_directory(tmp_path / "broken", {"train": shards})
    code, faults = audit(tmp_path / "broken", capsys)
    assert code == 1
    assert any(one.startswith("train-000.tar: block 1: ") and fault in one for one in faults), faults


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (["shards.block_size=15"], "16 sequences, not 1 to 15"),
        (["masking.max_predictions_per_seq=2"], "more masks than masked_lm_prob and the maximum allow"),
        (["sequence.max_seq_length=32"], "longer than max_seq_length"),
        (["sequence.max_seq_length=300"], "column instance_lengths is uint8, not uint16"),
    ],
)
def test_blocks_against_what_another_manifest_promises(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], fault: str
) -> None:
    shards = build(prose_like_documents(4), tmp_path).shards
    finish_directory(tmp_path, {"train": shards}, *overrides)
    code, faults = audit(tmp_path, capsys)
    assert code == 1
    assert any(fault in one for one in faults), faults


@pytest.mark.parametrize("override", ["masking.whole_word=true", "masking.max_ngram=3"])
def test_units_of_several_tokens_pass_with_fewer_masks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str
) -> None:
    overrides = [override]
    shards = build(prose_like_documents(12), tmp_path, *overrides).shards
    finish_directory(tmp_path, {"train": shards}, *overrides)
    assert audit(tmp_path, capsys) == (0, [])


DYNAMIC = "masking.kind=dynamic"
DYNAMIC_WORDS = [DYNAMIC, "masking.whole_word=true"]


@pytest.mark.parametrize("overrides", [[DYNAMIC], DYNAMIC_WORDS])
def test_shards_without_masks_pass_and_nothing_is_said_of_masks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str]
) -> None:
    shards = build(prose_like_documents(12), tmp_path, *overrides).shards
    finish_directory(tmp_path, {"train": shards}, *overrides)
    assert main([str(tmp_path), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)["splits"]["train"]
    assert summary["masked_tokens"] == 0
    assert "mask_rate" not in summary


@pytest.mark.parametrize(
    ("made", "promised", "fault"),
    [
        ([], [DYNAMIC], "column masked_lm_ids has no place here"),
        ([DYNAMIC], [], "column masked_lm_ids is missing"),
        ([DYNAMIC], DYNAMIC_WORDS, "column word_starts is missing"),
        (DYNAMIC_WORDS, [DYNAMIC], "column word_starts has no place here"),
    ],
)
def test_masks_and_word_starts_are_there_when_the_manifest_says_so_and_only_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made: list[str], promised: list[str], fault: str
) -> None:
    shards = build(prose_like_documents(4), tmp_path, *made).shards
    finish_directory(tmp_path, {"train": shards}, *promised)
    code, faults = audit(tmp_path, capsys)
    assert code == 1
    assert any(fault in one for one in faults), faults


def test_quantiles_are_those_of_numpy() -> None:
    lengths = np.random.default_rng(0).integers(5, 65, size=997)
    expected = np.quantile(lengths, [0.05, 0.5, 0.95, 1], method="inverted_cdf")
    found = length_quantiles(np.bincount(lengths, minlength=65))
    assert [found[percent] for percent in ("5", "50", "95", "100")] == expected.tolist()
    assert found["0"] == lengths.min()
    assert length_quantiles(np.zeros(3, dtype=np.int64)) == {}
