"""A question and a context -> the stretch of the context that answers it, or none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoModelForQuestionAnswering, DataCollatorWithPadding

from finetune.answers import Decoded, decode_question
from finetune.losses import span_cross_entropy
from finetune.reading.faults import Faults
from finetune.reading.squad import Question, read_squad
from finetune.squad_metrics import squad_scores
from finetune.task_config import QuestionAnsweringConfig
from finetune.tasks.task import Encoded, Feature, Logits, LossFunction
from finetune.windows import Window, cut_question, label_window


class QuestionAnswering:
    """Extractive question answering in the form of SQuAD. There are no labels; `labels` stays empty."""

    auto_class = AutoModelForQuestionAnswering
    metrics: tuple[str, ...] = ("f1", "exact_match")
    metric = "f1"

    def __init__(self, config: QuestionAnsweringConfig, labels: Sequence[str] = ()) -> None:
        self.config = config
        self.labels = list(labels)

    def read(self, key: str, path: Path, faults: Faults) -> list[Question]:
        """Return the questions of a file whose answers stand at their offsets."""
        return list(read_squad(key, path, faults, no_answer=self.config.no_answer, labelled=True))

    def learn_labels(self, train: Sequence[Question]) -> None:
        """Learn nothing: answers are stretches of text."""

    def head_settings(self) -> dict[str, Any]:
        """Return nothing: the head has two outputs, start and end."""
        return {}

    def encode(self, examples: Sequence[Question], tokenizer: Any, max_length: int, faults: Faults) -> Encoded:
        """Return the windows of each question, labelled for `span_cross_entropy` with its first answer."""
        kept: list[Question] = []
        features: list[Feature] = []
        spans: list[Window] = []
        long = 0
        overlap = self.config.window_overlap
        for question in examples:
            try:
                cut = list(cut_question(len(kept), question, tokenizer, max_length=max_length, overlap=overlap))
            except ValueError as error:
                faults.report(question.place, str(error))
                continue
            kept.append(question)
            long += len(cut) > 1
            for feature, window in cut:
                start, end = label_window(window, question.answers)
                features.append(feature | {"labels": (start, end, len(window.offsets))})
                spans.append(window)
        return Encoded(kept, features, spans, long, f"questions take several windows of {max_length} tokens")

    def collator(self, tokenizer: Any) -> Any:
        """Return what pads a batch to its longest window."""
        return DataCollatorWithPadding(tokenizer)

    def loss(self, train: Encoded) -> LossFunction:
        """Return the mean cross-entropy of start and end."""
        return span_cross_entropy()

    def scores(self, logits: Logits, encoded: Encoded) -> dict[str, float]:
        """Return exact match and F1 in percent."""
        predictions = {
            question.id: self._answer(question, decoded)
            for question, decoded in zip(encoded.examples, self._decode(logits, encoded), strict=True)
        }
        gold = {question.id: [answer.text for answer in question.answers] for question in encoded.examples}
        return squad_scores(predictions, gold, self.config.scoring)

    def decode(self, logits: Logits, encoded: Encoded) -> list[dict[str, Any]]:
        """Return, per question, its id, its answers, the predicted one ("" for none) and the `n_best` with spans."""
        return [
            {
                "at": str(question.place),
                "id": question.id,
                "question": question.question,
                "answers": [answer.text for answer in question.answers],
                "predicted": self._answer(question, decoded),
                "no_answer_margin": decoded.no_answer_margin if decoded.candidates else None,  # JSON has no infinity
                "candidates": [
                    {
                        "text": question.context[found.start : found.end],
                        "start": found.start,
                        "end": found.end,
                        "score": found.score,
                        "probability": probability,
                    }
                    for found, probability in zip(decoded.candidates, decoded.probabilities, strict=False)
                ],
            }
            for question, decoded in zip(encoded.examples, self._decode(logits, encoded), strict=True)
        ]

    def _decode(self, logits: Logits, encoded: Encoded) -> list[Decoded]:
        rows: list[list[int]] = [[] for _ in encoded.examples]
        for row, window in enumerate(encoded.spans):
            rows[window.question].append(row)
        starts, ends = logits
        return [
            decode_question(
                [encoded.spans[row] for row in own],
                [starts[row] for row in own],
                [ends[row] for row in own],
                n_best=self.config.n_best,
                max_answer_tokens=self.config.max_answer_tokens,
                no_answer=self.config.no_answer,
            )
            for own in rows
        ]

    def _answer(self, question: Question, decoded: Decoded) -> str:
        nothing = self.config.no_answer and decoded.no_answer_margin > self.config.no_answer_threshold
        if nothing or not decoded.candidates:
            return ""
        best = decoded.candidates[0]
        return question.context[best.start : best.end]
