"""Blocks seen by an audit -> counts, rates and length quantiles per split, and the text that shows them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.block_checks import masked_tokens
from data_prep.shard_format import Block

QUANTILES = (0, 5, 25, 50, 75, 95, 100)  # percent


class SplitStatistics:
    """Adds blocks up; holds counts and one histogram of lengths, whatever the size of the corpus."""

    def __init__(self, max_seq_length: int, mask_id: int) -> None:
        self.shards = 0
        self.counts = dict.fromkeys(("blocks", "sequences", "instances", "tokens", "masked_tokens"), 0)
        self.shown = dict.fromkeys(("mask", "random", "unchanged"), 0)
        self.random_pairs = 0
        self.has_pairs = False
        self.lengths = np.zeros(max_seq_length + 1, dtype=np.int64)
        self._mask_id = mask_id

    def add(self, block: Block) -> None:
        """Count a block without faults."""
        self.counts["blocks"] += 1
        self.counts["sequences"] += block.num_sequences
        self.counts["instances"] += block.num_instances
        self.counts["tokens"] += block.num_tokens
        self.counts["masked_tokens"] += block.num_masked
        self.lengths += np.bincount(block.instance_lengths, minlength=len(self.lengths))
        if block.masked_lm_ids is not None:
            seen = block.input_ids[masked_tokens(block)]
            is_mask, is_same = seen == self._mask_id, seen == block.masked_lm_ids
            self.shown["mask"] += int(is_mask.sum())
            self.shown["unchanged"] += int(is_same.sum())
            self.shown["random"] += int((~is_mask & ~is_same).sum())
        if block.next_sentence_labels is not None:
            self.has_pairs = True
            self.random_pairs += int(block.next_sentence_labels.sum())

    def summary(self) -> dict[str, Any]:
        """Return the counts, the rates (0 to 1) and `instance_length`: percent of instances -> tokens."""
        counts, masked = self.counts, self.counts["masked_tokens"]
        rates: dict[str, float] = {}
        if masked:
            rates["mask_rate"] = masked / counts["tokens"]
            rates |= {f"shown_as_{name}": shown / masked for name, shown in self.shown.items()}
        if self.has_pairs:
            rates["random_pair_rate"] = self.random_pairs / counts["instances"]
        if counts["sequences"]:
            rates["fill"] = counts["tokens"] / (counts["sequences"] * (len(self.lengths) - 1))
        return {
            "shards": self.shards,
            **counts,
            "random_pairs": self.random_pairs,
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


def format_report(splits: dict[str, dict[str, Any]], faults: list[str], directory: str) -> str:
    """Return the report as text: one paragraph per split, then the verdict and every fault."""
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
        if "random_pair_rate" in summary:
            lines.append(f"  random pairs  {summary['random_pair_rate']:.2%}")
        if "fill" in summary:
            quantiles = ", ".join(f"{percent} % {length}" for percent, length in summary["instance_length"].items())
            lines.append(f"  lengths       {quantiles}; sequences are {summary['fill']:.1%} full")
    verdict = f"{len(faults)} faults" if len(faults) != 1 else "1 fault"
    lines.append(f"{directory}: {verdict if faults else 'all checksums and invariants hold'}")
    return "\n".join([*lines, *(f"  {fault}" for fault in faults)])
