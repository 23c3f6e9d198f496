"""What must be true of every block of a finished directory, as pure checks that return faults in words."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from data_prep.config import MaskingKind, PairKind
from data_prep.manifest import Manifest, TokenizerInfo
from data_prep.masking import count_predictions, vocabulary_of
from data_prep.shard_format import Block, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRules:
    """What the manifest promises of each block."""

    tokenizer: TokenizerInfo
    max_seq_length: int
    block_size: int
    column_dtypes: dict[str, str]
    has_masks: bool
    has_pairs: bool
    has_word_starts: bool
    units_of_one: bool  # no word or n-gram that could be too large for what is left of a budget
    masked_lm_prob: float
    max_predictions_per_seq: int


def rules_of(manifest: Manifest) -> BlockRules:
    """Return the rules for the blocks of a manifest."""
    masking = manifest.config["masking"]
    has_masks = masking["kind"] == MaskingKind.static
    return BlockRules(
        tokenizer=manifest.tokenizer,
        max_seq_length=manifest.max_seq_length,
        block_size=manifest.block_size,
        column_dtypes=manifest.column_dtypes,
        has_masks=has_masks,
        has_pairs=manifest.config["pairs"]["kind"] != PairKind.none,
        has_word_starts=masking["whole_word"] and not has_masks,
        units_of_one=not masking["whole_word"] and masking.get("max_ngram", 1) == 1,  # older shards lack the key
        masked_lm_prob=masking["masked_lm_prob"],
        max_predictions_per_seq=masking["max_predictions_per_seq"],
    )


def find_faults(block: Block, rules: BlockRules) -> list[str]:
    """Return what is wrong with a block, one line per broken rule naming the first row that breaks it."""
    return _column_faults(block, rules) or _content_faults(block, rules)


def original_ids(block: Block) -> IntArray:
    """Return the ids, [tokens], as they were before masking."""
    if block.masked_lm_ids is None:
        return block.input_ids
    ids = block.input_ids.copy()
    ids[masked_tokens(block)] = block.masked_lm_ids
    return ids


def masked_tokens(block: Block) -> NDArray[np.int64]:
    """Return the flat indices of the masked tokens of a block with static masks, int64 [masked]."""
    assert block.masked_lm_counts is not None
    assert block.masked_lm_positions is not None
    return np.repeat(_starts(block.instance_lengths), block.masked_lm_counts) + block.masked_lm_positions


def _starts(lengths: IntArray) -> NDArray[np.int64]:
    return np.cumsum(lengths, dtype=np.int64) - lengths


def _column_faults(block: Block, rules: BlockRules) -> list[str]:
    """Check that the right columns are there, with the right types, and that their lengths agree."""
    masks = {"masked_lm_counts", "masked_lm_positions", "masked_lm_ids"} if rules.has_masks else set()
    labels = {"next_sentence_labels"} if rules.has_pairs else set()
    words = {"word_starts"} if rules.has_word_starts else set()
    wanted = {"input_ids", "instance_lengths", "segment_a_lengths", "sequence_instances"} | masks | words | labels
    columns = {field.name: getattr(block, field.name) for field in fields(Block)}
    present = {name for name, column in columns.items() if column is not None}
    faults = [f"column {name} is missing" for name in sorted(wanted - present)]
    faults += [f"column {name} has no place here" for name in sorted(present - wanted)]
    faults += [
        f"column {name} is {columns[name].dtype}, not {rules.column_dtypes[name]}"
        for name in sorted((wanted & present) - words)  # bits on disk
        if columns[name].dtype != rules.column_dtypes[name]
    ]
    if faults:
        return faults
    lengths = [
        ("input_ids", "instance_lengths", int(block.instance_lengths.sum(dtype=np.int64))),
        ("instance_lengths", "sequence_instances", int(block.sequence_instances.sum(dtype=np.int64))),
        ("segment_a_lengths", "instance_lengths", block.num_instances),
    ]
    if block.masked_lm_counts is not None:
        num_masked = int(block.masked_lm_counts.sum(dtype=np.int64))
        lengths.append(("masked_lm_counts", "instance_lengths", block.num_instances))
        lengths += [(name, "masked_lm_counts", num_masked) for name in ("masked_lm_positions", "masked_lm_ids")]
    if block.next_sentence_labels is not None:
        lengths.append(("next_sentence_labels", "instance_lengths", block.num_instances))
    faults = [
        f"column {name} has {len(columns[name])} items where {other} asks for {wanted_length}"
        for name, other, wanted_length in lengths
        if len(columns[name]) != wanted_length
    ]
    if not 1 <= block.num_sequences <= rules.block_size:
        faults.append(f"{block.num_sequences} sequences, not 1 to {rules.block_size}")
    if not block.sequence_instances.all():
        faults.append("a sequence has no instance")
    return faults


def _content_faults(block: Block, rules: BlockRules) -> list[str]:
    rows = np.repeat(np.arange(block.num_sequences), block.sequence_instances)
    lengths = block.instance_lengths.astype(np.int64)
    row_lengths = np.bincount(rows, lengths)
    shortest = 5 if rules.has_pairs else 3  # [CLS] a [SEP] b [SEP]
    faults = [
        *_first(row_lengths > rules.max_seq_length, np.arange(len(row_lengths)), "longer than max_seq_length"),
        *_first(lengths < shortest, rows, f"an instance of fewer than {shortest} tokens"),
    ]
    a_lengths = block.segment_a_lengths.astype(np.int64)
    if rules.has_pairs:
        faults += _first((a_lengths < 3) | (a_lengths > lengths - 2), rows, "segment A or B is empty")
    else:
        faults += _first(a_lengths != lengths, rows, "segment A is not the whole instance")
    if rules.has_masks:
        faults += _mask_place_faults(block, rows)
    # The checks of tokens index by lengths and positions, which must be sound first.
    if faults:
        return faults
    return [*_token_faults(block, rules, rows), *_mask_faults(block, rules, rows), *_label_faults(block, rows)]


def _mask_place_faults(block: Block, rows: NDArray[np.int64]) -> list[str]:
    assert block.masked_lm_counts is not None
    assert block.masked_lm_positions is not None
    instances = np.repeat(np.arange(block.num_instances), block.masked_lm_counts)
    positions = block.masked_lm_positions.astype(np.int64)
    same = instances[1:] == instances[:-1]
    unsorted = np.concatenate(([False], same & (positions[1:] <= positions[:-1])))
    outside = positions >= block.instance_lengths[instances]
    return [
        *_first(outside, rows[instances], "a masked position outside its instance"),
        *_first(unsorted[: len(positions)], rows[instances], "masked positions that do not ascend"),
    ]


def _token_faults(block: Block, rules: BlockRules, rows: NDArray[np.int64]) -> list[str]:
    tokenizer, ids = rules.tokenizer, original_ids(block)
    token_rows = np.repeat(rows, block.instance_lengths)
    starts = _starts(block.instance_lengths)
    expected = np.zeros(len(ids), dtype=np.int64)
    is_special = np.zeros(len(ids), dtype=np.bool_)
    for place, special in (
        (starts, tokenizer.cls_id),
        (starts + block.segment_a_lengths - 1, tokenizer.sep_id),
        (starts + block.instance_lengths - 1, tokenizer.sep_id),
    ):
        is_special[place] = True
        expected[place] = special
    never_in_text = [tokenizer.pad_id, tokenizer.cls_id, tokenizer.mask_id]
    if rules.has_pairs:  # full sentences have one [SEP] more where a document ends
        never_in_text.append(tokenizer.sep_id)
    nothing_before = (ids[1:] == tokenizer.sep_id) & np.isin(ids[:-1], [tokenizer.cls_id, tokenizer.sep_id])
    too_large = np.maximum(ids, block.input_ids) >= tokenizer.vocab_size
    return [
        *_first(too_large, token_rows, f"a token id outside the vocabulary of {tokenizer.vocab_size}"),
        *_first(is_special & (block.input_ids != expected), token_rows, "no [CLS] or [SEP] where one must be"),
        *_first(~is_special & np.isin(ids, never_in_text), token_rows, "a special token inside a segment"),
        *_first(nothing_before, token_rows[1:], "a [SEP] with no text before it"),
    ]


def _mask_faults(block: Block, rules: BlockRules, rows: NDArray[np.int64]) -> list[str]:
    if block.masked_lm_counts is None or block.masked_lm_ids is None:
        return []
    special_ids = vocabulary_of(rules.tokenizer).special_ids
    masked = masked_tokens(block)
    token_rows = np.repeat(rows, block.instance_lengths)
    replaced_by_special = np.isin(block.input_ids[masked], special_ids) & (
        block.input_ids[masked] != rules.tokenizer.mask_id
    )
    wanted = count_predictions(block.instance_lengths, rules.masked_lm_prob, rules.max_predictions_per_seq)
    maskable = np.add.reduceat(~np.isin(original_ids(block), special_ids), _starts(block.instance_lengths))
    too_few = np.zeros(len(wanted), dtype=np.bool_)
    if rules.units_of_one:  # others that exceed what is left of the budget are passed over
        too_few = block.masked_lm_counts < np.minimum(wanted, maskable)
    return [
        *_first(np.isin(block.masked_lm_ids, special_ids), token_rows[masked], "a masked special token"),
        *_first(replaced_by_special, token_rows[masked], "a special token as random replacement"),
        *_first(block.masked_lm_counts > wanted, rows, "more masks than masked_lm_prob and the maximum allow"),
        *_first(too_few, rows, "fewer masks than masked_lm_prob asks for"),
    ]


def _label_faults(block: Block, rows: NDArray[np.int64]) -> list[str]:
    if block.next_sentence_labels is None:
        return []
    return _first(block.next_sentence_labels > 1, rows, "a next-sentence label other than 0 or 1")


def _first(is_bad: NDArray[np.bool_], rows: IntArray, fault: str) -> list[str]:
    """Return the fault with the first row it is found in, or nothing."""
    return [f"row {rows[np.argmax(is_bad)]}: {fault}"] if is_bad.any() else []
