"""RoBERTa's tokenizer: a `vocab.json` and its `merges.txt` <-> byte-level BPE, every token a run of bytes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from data_prep.special_tokens import BYTE_BPE, require_every_id, require_special_tokens, special_settings
from data_prep.tokenizer_parts import pre_tokenizers_of

VERSION_LINE = "#version: 0.2"  # what merges.txt begins with


def byte_bpe_tokenizer(vocabulary: dict[str, int], merges: Sequence[tuple[str, str]], *, source: str) -> Tokenizer:
    """Return RoBERTa's tokenizer over token -> id and the merges in their order; `source` names both in errors.

    Pre-tokenizer, decoder and post-processor are those that transformers' RobertaTokenizer builds; the first word of a
    text has no space before it. Raises ValueError for a vocabulary that `require_byte_vocabulary` refuses.
    """
    require_byte_vocabulary(vocabulary, source)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        # As published: fill-mask users write "text <mask>", and the space belongs to the word that is hidden.
        [AddedToken(token, special=True, normalized=False, lstrip=token == BYTE_BPE.mask) for token in BYTE_BPE]
    )
    sep, cls = ((token, vocabulary[token]) for token in (BYTE_BPE.sep, BYTE_BPE.cls))
    tokenizer.post_processor = processors.RobertaProcessing(sep, cls, trim_offsets=True, add_prefix_space=False)
    return tokenizer


def require_byte_vocabulary(vocabulary: Mapping[str, int], source: str) -> None:
    """Raise ValueError unless a vocabulary has RoBERTa's special tokens, every id and every byte."""
    require_special_tokens(vocabulary, BYTE_BPE, source)
    require_every_id(vocabulary, source)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    missing = sorted(letter for letter in alphabet if letter not in vocabulary)
    if missing:
        raise ValueError(
            f"tokenizer.vocab_file: {source} lacks {len(missing)} of the 256 bytes, first the one written "
            f"{missing[0]!r}: text with them would be lost; use a vocabulary of a byte-level BPE"
        )


def read_byte_bpe(path: Path) -> Tokenizer:
    """Return the tokenizer of a `vocab.json` with `merges.txt` beside it (of an `X-vocab.json`, `X-merges.txt`).

    Raises ValueError for files that are missing or no such vocabulary and merges, with the line.
    """
    vocabulary = _read_vocabulary(path)
    require_byte_vocabulary(vocabulary, str(path))
    stem = path.stem.replace("vocab", "merges") if "vocab" in path.stem else "merges"
    merges_path = path.with_name(f"{stem}.txt")
    if not merges_path.is_file():
        raise ValueError(
            f"tokenizer.vocab_file: {path} needs its merges beside it, {merges_path.name}, which is not there; "
            "copy that file too, or name a tokenizer.json"
        )
    return byte_bpe_tokenizer(vocabulary, _read_merges(merges_path, vocabulary), source=str(path))


def _read_vocabulary(path: Path) -> dict[str, int]:
    try:
        vocabulary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"tokenizer.vocab_file: {path} is no JSON: {error}; name a vocab.json") from error
    if not isinstance(vocabulary, dict) or not all(type(number) is int for number in vocabulary.values()):
        raise ValueError(f"tokenizer.vocab_file: {path} is no vocab.json: it must be an object of token: id")
    return vocabulary


def _read_merges(path: Path, vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    merges: list[tuple[str, str]] = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"tokenizer.vocab_file: {path} is not UTF-8 text: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        left, _, right = line.rstrip("\r").partition(" ")
        unknown = [token for token in (left, right, left + right) if token not in vocabulary]
        if unknown:
            raise ValueError(
                f"tokenizer.vocab_file: {path}, line {number}: {line!r} merges two tokens into a third, but the "
                f"vocabulary beside it has no {unknown[0]!r}; the two files must be of one tokenizer"
            )
        merges.append((left, right))
    return merges


def require_byte_model(tokenizer: Tokenizer, source: str) -> None:
    """Raise ValueError unless a BPE is one over bytes that gives a text the same tokens each time."""
    if "ByteLevel" not in [part["type"] for part in pre_tokenizers_of(tokenizer)]:
        raise ValueError(
            f"tokenizer.vocab_file: {source} holds a BPE over characters (no ByteLevel pre-tokenizer); "
            "tokenizer.kind=byte_bpe needs one over bytes, such as RoBERTa's"
        )
    if tokenizer.model.dropout:
        raise ValueError(
            f"tokenizer.vocab_file: {source} has dropout={tokenizer.model.dropout:g}: a text would get other tokens "
            "each time; set model.dropout to null there"
        )
    require_byte_vocabulary(tokenizer.get_vocab(), source)


def is_robertas(tokenizer: Tokenizer) -> bool:
    """Return whether a byte-level BPE parts and merges as RoBERTa's does, and adds no tokens but special ones."""
    model = tokenizer.model
    return (
        not (model.ignore_merges or model.continuing_subword_prefix or model.end_of_word_suffix)
        and tokenizer.normalizer is None
        and isinstance(tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel)
        and tokenizer.pre_tokenizer.use_regex
        and all(token.special for token in tokenizer.get_added_tokens_decoder().values())
    )


def byte_bpe_files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """Return `vocab.json`, `merges.txt` and the `tokenizer_config.json` that transformers' AutoTokenizer reads."""
    vocabulary = tokenizer.get_vocab()
    in_order = {token: vocabulary[token] for token in sorted(vocabulary, key=vocabulary.__getitem__)}
    merges = [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    # transformers' class numbers anew what is not in the model's own vocabulary.
    is_roberta = is_robertas(tokenizer) and set(BYTE_BPE) <= set(tokenizer.get_vocab(with_added_tokens=False))
    config = {
        "tokenizer_class": "RobertaTokenizer" if is_roberta else "PreTrainedTokenizerFast",
        "add_prefix_space": is_roberta and tokenizer.pre_tokenizer.add_prefix_space,
        **special_settings(tokenizer, BYTE_BPE),
    }
    return {
        "vocab.json": json.dumps(in_order, ensure_ascii=False).encode(),
        "merges.txt": "".join(f"{line}\n" for line in [VERSION_LINE, *merges]).encode(),
        "tokenizer_config.json": json.dumps(config, indent=1).encode() + b"\n",
    }
