"""The special tokens of each kind of tokenizer, and what every vocabulary must hold."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tokenizers import Tokenizer


class SpecialTokens(NamedTuple):
    """The tokens that are no text, by the names that transformers gives them; in the order of BERT's vocabulary."""

    pad: str
    unk: str
    cls: str
    sep: str
    mask: str


WORDPIECE = SpecialTokens(pad="[PAD]", unk="[UNK]", cls="[CLS]", sep="[SEP]", mask="[MASK]")
BYTE_BPE = SpecialTokens(pad="<pad>", unk="<unk>", cls="<s>", sep="</s>", mask="<mask>")
UNIGRAM = SpecialTokens(pad="<pad>", unk="<unk>", cls="[CLS]", sep="[SEP]", mask="[MASK]")


def require_special_tokens(vocabulary: Mapping[str, int], special: SpecialTokens, source: str) -> None:
    """Raise ValueError, naming `source`, for a vocabulary that lacks one."""
    missing = [token for token in special if token not in vocabulary]
    if missing:
        raise ValueError(
            f"vocabulary {source} has no {' and no '.join(missing)}: pretraining needs {', '.join(special)}; "
            "add what is missing (over [unused] entries, if it has some) or use another vocabulary"
        )


def special_settings(tokenizer: Tokenizer, special: SpecialTokens) -> dict[str, Any]:
    """Return what a `tokenizer_config.json` says of special tokens that have the names of sentences' ends too.

    The mask takes the space before it unless the tokenizer says otherwise: fill-mask users write "text <mask>", and the
    space belongs to the word that is hidden.
    """
    mask = tokenizer.get_added_tokens_decoder().get(tokenizer.get_vocab()[special.mask])
    return {
        "bos_token": special.cls,
        "eos_token": special.sep,
        **{f"{name}_token": token for name, token in special._asdict().items()},
        "mask_token": {
            "__type": "AddedToken",
            "content": special.mask,
            "lstrip": mask is None or mask.lstrip,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        },
    }


def require_every_id(vocabulary: Mapping[str, int], source: str) -> None:
    """Raise ValueError, naming `source`, unless ids run from 0 without holes or repeats."""
    # vocab.txt says ids by line numbers, so a hole would shift every later token; a model has as many rows as tokens.
    hole = next((wanted for wanted, number in enumerate(sorted(vocabulary.values())) if wanted != number), None)
    if hole is not None:
        raise ValueError(
            f"tokenizer.vocab_file: {source} has no token of id {hole}, but ids up to {max(vocabulary.values())}; "
            "ids must run from 0 without holes or repeats: fill the gap with [unused] tokens"
        )
