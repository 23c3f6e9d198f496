"""One instance of a block -> text that a human reads."""

from collections.abc import Callable

import numpy as np

from data_prep.block_checks import masked_tokens, original_ids
from data_prep.config import PairKind
from data_prep.shard_format import Block
from data_prep.token_text import ShownToken, word_piece_units

LABELS = {
    PairKind.nsp: {0: "B follows A", 1: "random B"},
    PairKind.sop: {0: "in order", 1: "swapped"},
    PairKind.none: {},
}
WIDTH = 110  # characters


def render_instance(
    block: Block,
    instance: int,
    id_to_token: Callable[[int], str | None],
    kind: PairKind,
    units_of: Callable[[list[ShownToken]], list[str]] = word_piece_units,
) -> str:
    """Return counts and label on one line, then segment A and, if there is one, B, wrapped.

    A masked token reads `seen{wanted}`; `units_of` makes text of a segment's tokens, as in `token_text`.
    """
    start = int(block.instance_lengths[:instance].sum(dtype=np.int64))
    stop = start + int(block.instance_lengths[instance])
    middle = start + int(block.segment_a_lengths[instance])
    is_masked = np.zeros(block.num_tokens, dtype=np.bool_)
    if block.masked_lm_counts is not None:
        is_masked[masked_tokens(block)] = True
    wanted = original_ids(block)
    pieces = [
        ShownToken(_token(seen, id_to_token), _token(want, id_to_token) if masked else None)
        for seen, want, masked in zip(
            block.input_ids[start:stop].tolist(),
            wanted[start:stop].tolist(),
            is_masked[start:stop].tolist(),
            strict=True,
        )
    ]
    facts = [f"{stop - start} tokens"]
    if block.masked_lm_counts is not None:
        facts.append(f"{int(is_masked[start:stop].sum())} masked")
    if block.next_sentence_labels is not None:
        label = int(block.next_sentence_labels[instance])
        facts.append(f"label {label} ({LABELS[kind].get(label, 'no valid label')})")
    segments = [("A", pieces[: middle - start])]
    if middle < stop:
        segments.append(("B", pieces[middle - start :]))
    return "\n".join([", ".join(facts), *(_wrapped(name, units_of(segment)) for name, segment in segments)])


def _token(token_id: int, id_to_token: Callable[[int], str | None]) -> str:
    return id_to_token(token_id) or f"<id {token_id}>"


def _wrapped(name: str, units: list[str]) -> str:
    indent = f"  {name}  "
    lines = [""]
    for unit in units:
        if lines[-1] and len(indent) + len(lines[-1]) + len(unit) > WIDTH:
            lines.append("")
        lines[-1] += unit if lines[-1] else unit.lstrip()
    return indent + f"\n{' ' * len(indent)}".join(lines)
