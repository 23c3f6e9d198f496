"""ALBERT's tokenizer, SentencePiece's unigram model: each word is cut into its most likely pieces (arXiv:1804.10959).

The first piece of a word begins with `▁`, which stands for the space before it. Vocabularies are read, not trained: the
trainer of `tokenizers` 0.23 made four vocabularies of one text in four processes.
"""

import json
from collections import Counter

from tokenizers import Tokenizer

from data_prep.special_tokens import UNIGRAM, require_every_id, require_special_tokens, special_settings
from data_prep.tokenizer_parts import pre_tokenizers_of

WORD_MARK = "▁"
NEVER_IN_TEXT = "\0"  # `clean_text` removes it


def require_unigram_model(tokenizer: Tokenizer, source: str) -> None:
    """Raise ValueError unless a unigram tokenizer gives every sentence the tokens that it has in running text."""
    vocabulary, model = tokenizer.get_vocab(), json.loads(tokenizer.to_str())["model"]
    require_special_tokens(vocabulary, UNIGRAM, source)
    piece, uses = Counter(piece for piece, _ in model["vocab"]).most_common(1)[0]
    if uses > 1:
        raise ValueError(f"tokenizer.vocab_file: {source} has the piece {piece!r} {uses} times; keep one of them")
    require_every_id(vocabulary, source)
    unk_id = vocabulary[UNIGRAM.unk]
    if model["unk_id"] != unk_id:
        raise ValueError(
            f"tokenizer.vocab_file: {source} makes unknown characters the token of id {model['unk_id']}, and "
            f"{UNIGRAM.unk} is {unk_id}; set model.unk_id there to {unk_id}"
        )
    if model["byte_fallback"]:
        raise ValueError(
            f"tokenizer.vocab_file: {source} has byte_fallback: parts of characters would be masked; take a vocabulary "
            "without it, such as ALBERT's"
        )
    if not _marks_every_word(tokenizer):
        raise ValueError(
            f"tokenizer.vocab_file: {source} does not part text at every word and put {WORD_MARK} before it (a "
            'Metaspace with prepend_scheme "always" and split): sentences would be other tokens than in running text; '
            "take one such as ALBERT's"
        )


def _marks_every_word(tokenizer: Tokenizer) -> bool:
    parts = pre_tokenizers_of(tokenizer)
    is_parted = False
    for part in parts:
        if part["type"] == "Metaspace":
            is_parted |= part["split"]
            return is_parted and part["prepend_scheme"] == "always" and part["replacement"] == WORD_MARK
        is_parted |= part["type"] == "WhitespaceSplit"
    return False


def without_special_pieces(tokenizer: Tokenizer) -> Tokenizer:
    """Return a tokenizer of the same ids to which text that spells a special token is text.

    In a unigram model special tokens are pieces with a score like all others, and a likely one: "<pad>" in a text would
    be padding. Their names change to what no text holds; scores stay, as the least counts for unknown characters.
    """
    values = json.loads(tokenizer.to_str())
    special = {*UNIGRAM, *(token["content"] for token in values["added_tokens"] if token["special"])}

    def renamed(piece: str) -> str:
        return NEVER_IN_TEXT + piece if piece in special else piece

    values["model"]["vocab"] = [[renamed(piece), score] for piece, score in values["model"]["vocab"]]
    values["added_tokens"] = [token | {"content": renamed(token["content"])} for token in values["added_tokens"]]
    return Tokenizer.from_str(json.dumps(values))


def unigram_files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """Return the `tokenizer_config.json` with which transformers' AutoTokenizer reads `tokenizer.json` as it is.

    transformers' AlbertTokenizer would build its own rules from settings.
    """
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **special_settings(tokenizer, UNIGRAM),
    }
    return {"tokenizer_config.json": json.dumps(config, indent=1).encode() + b"\n"}
