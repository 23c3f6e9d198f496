"""Start and end logits of windows -> the best answers of each question, and whether there is none.

As google-research/bert's run_squad.py: an answer's score is its start logit plus its end logit, that of no answer the
lowest of `[CLS]` over the windows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from finetune.windows import Window

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Candidate:
    """`context[start:end]` (characters) with its score in logits."""

    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the windows of one question say.

    `candidates` are the best first, `probabilities` a softmax over their scores and, last, that of no answer where
    there may be none. `no_answer_margin` is the score of no answer minus the best one's,
    infinite where no window has an answer.
    """

    candidates: list[Candidate]
    probabilities: list[float]
    no_answer_margin: float


def decode_question(
    windows: Sequence[Window],
    starts: Sequence[FloatArray],
    ends: Sequence[FloatArray],
    *,
    n_best: int,
    max_answer_tokens: int,
    no_answer: bool,
) -> Decoded:
    """Return the `n_best` answers over all windows of one question; logits are [tokens] per window, padding at the end.

    An answer begins and ends in the context, and has at most `max_answer_tokens` tokens.
    """
    best: dict[tuple[int, int], Candidate] = {}
    for window, start, end in zip(windows, starts, ends, strict=True):
        for found in _candidates(window, start, end, n_best, max_answer_tokens):
            known = best.get((found.start, found.end))
            if known is None or known.score < found.score:
                best[found.start, found.end] = found
    ranked = sorted(best.values(), key=lambda found: -found.score)[:n_best]
    nothing = min(
        float(start[window.cls_position]) + float(end[window.cls_position])
        for window, start, end in zip(windows, starts, ends, strict=True)
    )
    scores = [found.score for found in ranked] + ([nothing] if no_answer else [])
    probabilities = softmax(np.array(scores, dtype=np.float64)).tolist() if scores else []
    margin = nothing - ranked[0].score if ranked else np.inf
    return Decoded(ranked, probabilities, margin)


def _candidates(
    window: Window, start: FloatArray, end: FloatArray, n_best: int, max_answer_tokens: int
) -> Iterator[Candidate]:
    """Yield the answers made of the `n_best` likeliest starts and ends of one window."""
    spans = dict(window.context_tokens)
    context = np.array([*spans], dtype=np.intp)
    firsts, lasts = (context[np.argsort(-logits[context], kind="stable")[:n_best]] for logits in (start, end))
    for first in firsts.tolist():
        for last in lasts.tolist():
            if first <= last < first + max_answer_tokens:
                yield Candidate(spans[first][0], spans[last][1], float(start[first]) + float(end[last]))
