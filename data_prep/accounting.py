"""Where every token of the documents went, by the counts of build and what the shards hold: for `data_prep.audit`."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from data_prep.config import PairKind, PairRecipe, PairsConfig
from data_prep.masking import MASK_SHARE, RANDOM_SHARE

OUTER_TOKENS = {PairKind.nsp: 3, PairKind.sop: 3, PairKind.none: 2}  # [CLS] and [SEP] of an instance
LEAST_MASKED = 0.8  # of what is wanted: words and n-grams that no longer fit a budget are passed over
LABELS = {PairKind.nsp: "random_pairs", PairKind.sop: "swapped_pairs"}  # what label 1 is


def accounting_faults(config: PairsConfig, counts: Mapping[str, int], found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with one split: `counts` is what build says, `found` what its shards hold.

    Each token of each document is in one A, following B or full sentence per copy, or was truncated, or is left over;
    a random B's tokens are only borrowed, and with our own recipe never from A's own document.
    """
    special = OUTER_TOKENS[config.kind] * found["instances"] + counts.get("documents_joined", 0)
    used = found["tokens"] - special - counts.get("tokens_borrowed", 0)
    kept_back = counts.get("tokens_truncated", 0) + counts.get("tokens_unused", 0)
    if used + kept_back != counts["tokens_taken"]:
        yield (
            f"{used} tokens of documents in shards and {kept_back} truncated or unused are not the "
            f"{counts['tokens_taken']} that were taken"
        )
    if config.recipe is PairRecipe.lambert:
        yield from _neighbour_faults(config, counts, found)


def _neighbour_faults(config: PairsConfig, counts: Mapping[str, int], found: Mapping[str, Any]) -> Iterator[str]:
    """Yield where our own recipe's promises of pairs are broken: neighbours touch, random Bs are from elsewhere."""
    if counts.get("pairs_from_one_document", 0):
        yield f"{counts['pairs_from_one_document']} random pairs have A and B of the same document"
    if "touching_pairs" not in counts:
        return
    touching, in_order = counts["touching_pairs"], found["instances"] - found[LABELS[config.kind]]
    # Swapped segments lose what they met at when they are truncated; the others never do.
    most = in_order if config.kind is PairKind.nsp else found["instances"]
    if not in_order <= touching <= most:
        yield f"{touching} pairs touch, where the shards hold {in_order} whose B follows A"


def rate_faults(config: PairsConfig, counts: Mapping[str, int], found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the shares of one split that are further from what they are drawn with than `tolerance` allows.

    Documents without a partner have no random Bs, and google-research's recipe has more than half. Masks are counted in
    every block where tokens are masked one by one; words and n-grams must come to nearly as many.
    """
    masked = found["masked_tokens"]
    drawn = [
        ("[MASK]s", found.get("shown_as_mask", 0), masked, MASK_SHARE),
        ("random tokens", found.get("shown_as_random", 0), masked, RANDOM_SHARE),
    ]
    label = LABELS.get(config.kind)
    if label and config.recipe is PairRecipe.lambert:
        partnered = found["instances"] - counts.get("instances_without_partner", 0)
        drawn.append((label.replace("_", " "), found[label] / max(partnered, 1), partnered, 0.5))
    for what, share, draws, wanted in drawn:
        if draws and abs(share - wanted) > tolerance(wanted, draws):
            yield f"{share:.2%} {what}, further than {tolerance(wanted, draws):.2%} from {wanted:.0%}"
    if masked < LEAST_MASKED * found["wanted_masks"]:
        yield f"{masked} masked tokens, where masked_lm_prob asks for {found['wanted_masks']}"


def tolerance(share: float, draws: int) -> float:
    """Return how far from `share` so many independent draws may end: one percent, or four standard deviations."""
    return max(0.01, 4 * math.sqrt(share * (1 - share) / max(draws, 1)))


def describe_accounting(counts: Mapping[str, int]) -> list[str]:
    """Return lines about where the tokens of one split went, and how its pairs meet."""
    taken = max(counts["tokens_taken"], 1)
    shares = {name: counts.get(f"tokens_{name}", 0) / taken for name in ("truncated", "unused", "borrowed")}
    used = 1 - shares["truncated"] - shares["unused"]
    lines = [
        f"  by build      {counts['documents']:,} documents, {counts['sentences']:,} sentences; of the tokens taken "
        f"{used:.2%} are used once, {shares['truncated']:.2%} truncated, {shares['unused']:.2%} left over; "
        f"{shares['borrowed']:.2%} are borrowed"
    ]
    if counts.get("instances_without_partner"):
        lines.append(
            f"  alone         {counts['instances_without_partner']:,} instances of documents alone in a bucket have no "
            "random B"
        )
    if "touching_pairs" in counts:
        neighbours = counts.get("next_pairs", counts["instances"])
        lines.append(
            f"  pairs         {counts['touching_pairs']:,} of {neighbours:,} neighbours touch; "
            f"{counts.get('pairs_from_one_document', 0):,} random Bs are from A's own document"
        )
    return lines
