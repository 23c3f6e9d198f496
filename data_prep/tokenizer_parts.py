"""What the parts of a tokenizer are, which the library's own classes do not say of sequences of them."""

import json
from typing import Any

from tokenizers import Tokenizer


def pre_tokenizers_of(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Return what parts text into words, in order, as `tokenizer.json` has it; sequences are opened."""
    return _opened(json.loads(tokenizer.to_str())["pre_tokenizer"])


def _opened(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    return [opened for inner in part["pretokenizers"] for opened in _opened(inner)]
