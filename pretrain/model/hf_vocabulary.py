"""The tokenizer of a transformers directory against that of the shards: the same ids, and the pieces of new words."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from pretrain.model.hf_files import TOKENIZERS, read_object, read_vocabulary

RULES = ("normalizer", "pre_tokenizer")
KINDS = {"vocab.txt": "WordPiece", "vocab.json": "BPE"}  # of a model that has no tokenizer.json
TOKENIZER_KINDS = {"WordPiece": "wordpiece", "BPE": "byte_bpe", "Unigram": "unigram"}  # as data_prep calls them
DECISIONS = {"BPE": ("merges",), "Unigram": ("vocab", "unk_id")}  # what says how a model cuts text, besides the ids
FIELD = "model.init_from"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What of the model's word embeddings the shards' tokens need."""

    num_old: int  # the model's tokens: its first rows
    pieces: tuple[tuple[int, ...], ...]  # of each new token, in the order of their ids: what it was before


def match_vocabulary(directory: Path, tokenizer: Tokenizer, *, shards: str, extend: bool) -> Vocabulary:
    """Hold the tokenizer of `directory` against the one that the shards in `shards` were made with.

    Raises ValueError with the command that makes right shards when a token of the model has another id there, when
    text is cut by other rules, and when the shards have tokens of their own unless `extend`, or none and `extend`.
    """
    old, theirs = read_vocabulary(directory, FIELD)
    ids, ours = tokenizer.get_vocab(), json.loads(tokenizer.to_str())
    remedy = f"prepare the shards with it: {_command(directory, theirs)}"
    moved = sorted((number, token) for token, number in old.items() if ids.get(token) != number)
    if moved:
        number, token = moved[0]
        raise ValueError(
            f"{FIELD}={directory}: {len(moved):,} of its {len(old):,} tokens are others in {shards}: {token!r} has id "
            f"{number} in the model and {ids.get(token)} in the shards; {remedy}"
        )
    _require_same_rules(directory, theirs, ours, f"{shards}; {remedy}")
    new = sorted(ids.keys() - old.keys(), key=ids.__getitem__)
    if bool(new) != extend:
        said = f"{len(new):,} tokens that the model has not" + (f", first {new[0]!r}" if new else "")
        other = "model.extend_vocabulary=true gives them rows; or " if new else "model.extend_vocabulary=false; or "
        how = remedy if new else f"{remedy.removesuffix(' ...')} tokenizer.add_words_file=FILE ..."
        raise ValueError(f"model.extend_vocabulary={extend} is not valid: {shards} has {said}: {other}{how}")
    return Vocabulary(num_old=len(old), pieces=_pieces(new, ids, old, ours, shards) if new else ())


def _command(directory: Path, theirs: Tokenizer | None) -> str:
    """Return how to make shards with the tokenizer of `directory`. Raises ValueError for a kind that cannot be."""
    file = next(path for name in TOKENIZERS if (path := directory / name).is_file())
    kind = type(theirs.model).__name__ if theirs is not None else KINDS[file.name]
    if kind not in TOKENIZER_KINDS:
        raise ValueError(
            f"{FIELD}={directory}: its tokenizer is a {kind} model, and data_prep makes shards with "
            f"{', '.join(TOKENIZER_KINDS)} only; name another model"
        )
    name = "" if kind == "WordPiece" else f" tokenizer.kind={TOKENIZER_KINDS[kind]}"
    return f"python -m data_prep tokenizer.vocab_file={file}{name} ..."


def _require_same_rules(directory: Path, theirs: Tokenizer | None, ours: dict[str, Any], what: str) -> None:
    """Raise ValueError when text becomes other words: a vocab.txt says lower case only, and only beside a config."""
    if theirs is not None:
        given = json.loads(theirs.to_str())
        for rule in RULES:
            if given[rule] != ours[rule]:
                raise ValueError(
                    f"{FIELD}={directory}: its tokenizer has the {rule} {_shown(given[rule])}, and not "
                    f"{_shown(ours[rule])} as {what}"
                )
        for name in DECISIONS.get(given["model"]["type"], ()):
            if given["model"][name] != ours["model"].get(name):
                raise ValueError(f"{FIELD}={directory}: its tokenizer has another `{name}` than {what}")
        if _sought(given) != _sought(ours):
            raise ValueError(
                f"{FIELD}={directory}: its tokenizer looks for {_shown(_sought(given))} in text before all else, and "
                f"not {_shown(_sought(ours))} as {what}"
            )
        return
    path = directory / "tokenizer_config.json"
    settings = read_object(path, FIELD) if path.is_file() else {}
    wanted, found = settings.get("do_lower_case"), (ours["normalizer"] or {}).get("lowercase")
    if None not in (wanted, found) and wanted != found:
        raise ValueError(
            f"{FIELD}={directory}: {path.name} says do_lower_case={wanted}, and lowercase is {found} in {what} "
            f"tokenizer.lowercase={str(wanted).lower()}"
        )


def _sought(tokenizer: dict[str, Any]) -> list[str]:
    """Return the added tokens that are no special ones: they cut text before all other rules."""
    return sorted(token["content"] for token in tokenizer["added_tokens"] if not token["special"])


def _shown(rule: Any) -> str:
    return json.dumps(rule, ensure_ascii=False)


def _pieces(
    new: list[str], ids: dict[str, int], old: dict[str, int], ours: dict[str, Any], shards: str
) -> tuple[tuple[int, ...], ...]:
    """Return the ids that each new token had as text before: what the shards' tokenizer makes without the new ones."""
    kind = ours["model"]["type"]
    if kind != "WordPiece":
        raise ValueError(
            f"model.extend_vocabulary=True is not valid: {shards} has a {kind} tokenizer, and only WordPiece takes "
            "words without merges; prepare the shards with the model's own tokenizer"
        )
    if ids[new[0]] < len(old):
        raise ValueError(
            f"model.extend_vocabulary=True is not valid: {new[0]!r} has id {ids[new[0]]} in {shards}, among the "
            "model's; new tokens must follow its own, as tokenizer.add_words_file puts them"
        )
    prefix = ours["model"]["continuing_subword_prefix"]
    inner = [token for token in new if token.startswith(prefix)]
    if inner:
        raise ValueError(
            f"model.extend_vocabulary=True is not valid: {inner[0]!r} in {shards} is a part of words, and only whole "
            "words have pieces to begin with; add words with tokenizer.add_words_file"
        )
    before = ours | {
        "model": ours["model"] | {"vocab": {word: ids[word] for word in ours["model"]["vocab"] if word in old}},
        "added_tokens": [token for token in ours["added_tokens"] if token["content"] in old],
    }
    encodings = Tokenizer.from_str(json.dumps(before)).encode_batch(new, add_special_tokens=False)
    return tuple(tuple(encoding.ids) for encoding in encodings)
