"""Questions with contexts of any length -> windows that a model can take, and where the answer lies in each.

As google-research/bert's run_squad.py: windows of a context overlap; one without the whole answer has `[CLS]` for it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.reading.squad import Answer, Question

Feature = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Window:
    """One input: which question it is of, and where each token stands in the context.

    `offsets` are `(first, end)` in characters, end exclusive, and None for tokens that are not of the context.
    """

    question: int
    offsets: list[tuple[int, int] | None]
    cls_position: int

    @property
    def context_tokens(self) -> list[tuple[int, tuple[int, int]]]:
        """The tokens of the context, with their characters; one that holds none (a dropped joiner) stands nowhere."""
        return [(token, span) for token, span in enumerate(self.offsets) if span is not None and span[0] < span[1]]


def cut_question(
    number: int, question: Question, tokenizer: Any, *, max_length: int, overlap: int
) -> Iterator[tuple[Feature, Window]]:
    """Yield the windows of a question, which is the `number`-th: features without labels, and what they hold.

    Raises ValueError when the question leaves room for no more than `overlap` tokens of the context.
    """
    asked = len(tokenizer(question.question, add_special_tokens=False)["input_ids"])
    room = max_length - asked - tokenizer.num_special_tokens_to_add(pair=True)
    if room <= overlap:
        raise ValueError(
            f"the question has {asked} tokens, which leaves room for {max(room, 0)} of the context, and "
            f"task.window_overlap={overlap} must be below that; lower it, or raise max_length={max_length}"
        )
    encoded = tokenizer(
        question.question,
        question.context,
        truncation="only_second",
        max_length=max_length,
        stride=overlap,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    names = [name for name in encoded if name in tokenizer.model_input_names]
    for row, ids in enumerate(encoded["input_ids"]):
        offsets = [
            offset if part == 1 else None
            for offset, part in zip(encoded["offset_mapping"][row], encoded.sequence_ids(row), strict=True)
        ]
        cls_position = ids.index(tokenizer.cls_token_id)
        yield {name: encoded[name][row] for name in names}, Window(number, offsets, cls_position)


def label_window(window: Window, answers: Sequence[Answer]) -> tuple[int, int]:
    """Return the first and the last token of the first answer, or `[CLS]` twice.

    `[CLS]` stands for no answer, and for one that does not lie wholly in the window.
    """
    nowhere = window.cls_position, window.cls_position
    if not answers:
        return nowhere
    first, end = answers[0].start, answers[0].start + len(answers[0].text)
    tokens = window.context_tokens
    if not tokens or first < tokens[0][1][0] or end > tokens[-1][1][1]:
        return nowhere
    inside = [token for token, (start, stop) in tokens if start < end and stop > first]
    return (inside[0], inside[-1]) if inside else nowhere
