"""Blocks seen by an audit -> counts, rates and length quantiles per split, and the text that shows them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.accounting import LABELS, describe_accounting
from data_prep.block_checks import BlockRules, masked_tokens
from data_prep.config import PairKind
from data_prep.masking import count_predictions
from data_prep.shard_format import Block

QUANTILES = (0, 5, 25, 50, 75, 95, 100)  # percent


class SplitStatistics:
    """Adds blocks up; holds counts and one histogram of lengths, whatever the size of the corpus."""

    def __init__(self, rules: BlockRules, pairs: PairKind) -> None:
        self.shards = 0
        self.counts = dict.fromkeys(("blocks", "sequences", "instances", "tokens", "masked_tokens"), 0)
        self.shown = dict.fromkeys(("mask", "random", "unchanged"), 0)
        self.label = LABELS.get(pairs)  # what label 1 says of a pair; None without labels
        self.labelled = 0
        self.wanted_masks = 0
        self.masks = np.zeros(rules.max_seq_length, dtype=np.int64)
        self.lengths = np.zeros(rules.max_seq_length + 1, dtype=np.int64)
        self._rules = rules

    def add(self, block: Block) -> None:
        """Count a block without faults."""
        self.counts["blocks"] += 1
        self.counts["sequences"] += block.num_sequences
        self.counts["instances"] += block.num_instances
        self.counts["tokens"] += block.num_tokens
        self.counts["masked_tokens"] += block.num_masked
        self.lengths += np.bincount(block.instance_lengths, minlength=len(self.lengths))
        if block.masked_lm_ids is not None:
            assert block.masked_lm_positions is not None
            rules = self._rules
            wanted = count_predictions(block.instance_lengths, rules.masked_lm_prob, rules.max_predictions_per_seq)
            self.wanted_masks += int(wanted.sum())
            self.masks += np.bincount(block.masked_lm_positions, minlength=len(self.masks))
            seen = block.input_ids[masked_tokens(block)]
            is_mask, is_same = seen == self._rules.tokenizer.mask_id, seen == block.masked_lm_ids
            self.shown["mask"] += int(is_mask.sum())
            self.shown["unchanged"] += int(is_same.sum())
            self.shown["random"] += int((~is_mask & ~is_same).sum())
        if block.next_sentence_labels is not None:
            self.labelled += int(block.next_sentence_labels.sum())

    def merge(self, other: "SplitStatistics") -> None:
        """Count what another one of the same split counted."""
        self.shards += other.shards
        self.labelled += other.labelled
        self.wanted_masks += other.wanted_masks
        self.masks += other.masks
        self.lengths += other.lengths
        for own, others in ((self.counts, other.counts), (self.shown, other.shown)):
            for name, count in others.items():
                own[name] += count

    def summary(self) -> dict[str, Any]:
        """Return the counts, the rates (0 to 1) and `instance_length`: percent of instances -> tokens."""
        counts, masked = self.counts, self.counts["masked_tokens"]
        rates: dict[str, float] = {}
        if masked:
            rates["mask_rate"] = masked / counts["tokens"]
            rates |= {f"shown_as_{name}": shown / masked for name, shown in self.shown.items()}
        if self.label and counts["instances"]:
            rates[f"{self.label.removesuffix('s')}_rate"] = self.labelled / counts["instances"]
        if counts["sequences"]:
            rates["fill"] = counts["tokens"] / (counts["sequences"] * (len(self.lengths) - 1))
        return {
            "shards": self.shards,
            **counts,
            "wanted_masks": self.wanted_masks,
            **({self.label: self.labelled} if self.label else {}),
            **rates,
            "instance_length": length_quantiles(self.lengths),
        }


def length_quantiles(histogram: NDArray[np.int64]) -> dict[str, int]:
    """Return percent -> the smallest length that as many instances do not exceed; `histogram[n]` counts length n."""
    total = int(histogram.sum())
    if not total:
        return {}
    reached = np.cumsum(histogram)
    ranks = {percent: max(1, -(-percent * total // 100)) for percent in QUANTILES}
    return {str(percent): int(np.searchsorted(reached, rank)) for percent, rank in ranks.items()}


def format_report(
    splits: dict[str, dict[str, Any]], promised: Mapping[str, Mapping[str, int]], faults: list[str], directory: str
) -> str:
    """Return the report as text: one paragraph per split, then the verdict and every fault.

    `promised` is what the manifest's statistics say of each split.
    """
    lines = []
    for split, summary in splits.items():
        lines.append(
            f"{split}: {summary['shards']:,} shards, {summary['blocks']:,} blocks, {summary['sequences']:,} sequences, "
            f"{summary['instances']:,} instances, {summary['tokens']:,} tokens"
        )
        if "mask_rate" in summary:
            lines.append(
                f"  masks         {summary['masked_tokens']:,} ({summary['mask_rate']:.2%} of tokens), shown as [MASK] "
                f"{summary['shown_as_mask']:.2%}, random {summary['shown_as_random']:.2%}, "
                f"unchanged {summary['shown_as_unchanged']:.2%}"
            )
        for label in ("random", "swapped"):
            if f"{label}_pair_rate" in summary:
                lines.append(f"  {label} pairs {summary[f'{label}_pair_rate']:>7.2%}")
        if "fill" in summary:
            quantiles = ", ".join(f"{percent} % {length}" for percent, length in summary["instance_length"].items())
            lines.append(f"  lengths       {quantiles}; sequences are {summary['fill']:.1%} full")
        if "tokens_taken" in promised.get(split, {}):
            lines += describe_accounting(promised[split])
    verdict = f"{len(faults)} faults" if len(faults) != 1 else "1 fault"
    lines.append(f"{directory}: {verdict if faults else 'all checksums and invariants hold'}")
    return "\n".join([*lines, *(f"  {fault}" for fault in faults)])
