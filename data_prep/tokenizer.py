"""A vocabulary -> the tokenizer, and the folder beside the shards that holds it."""

import json
from hashlib import sha256
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from data_prep.atomic_file import write_atomically
from data_prep.manifest import TokenizerInfo

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUATION = "##"
TOKENIZER_FOLDER = "tokenizer"


def load_tokenizer(path: Path, *, lowercase: bool) -> Tokenizer:
    """Return the tokenizer of a `vocab.txt` (with BERT's clean-up, `lowercase` or not) or of a `tokenizer.json`.

    Raises ValueError when the file is missing, is no WordPiece vocabulary, lacks a special token or leaves out an id.
    """
    if not path.is_file():
        raise ValueError(f"tokenizer.vocab_file: {path} does not exist; name a vocab.txt or a tokenizer.json")
    if path.suffix != ".json":
        return wordpiece_tokenizer(_read_vocabulary(path), lowercase=lowercase, source=str(path))
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception for whatever it cannot parse
        raise ValueError(f"tokenizer.vocab_file: {path} is no tokenizer.json of this library: {error}") from error
    if not isinstance(tokenizer.model, models.WordPiece):
        kind = type(tokenizer.model).__name__
        raise ValueError(f"tokenizer.vocab_file: {path} holds a {kind} model; data_prep needs WordPiece")
    _require_special_tokens(tokenizer.get_vocab(), str(path))
    _require_every_id(tokenizer.get_vocab(), str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _read_vocabulary(path: Path) -> list[str]:
    try:
        tokens = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"tokenizer.vocab_file: {path} is not UTF-8 text: {error}") from error
    tokens = [token.rstrip("\r") for token in (tokens[:-1] if tokens[-1] == "" else tokens)]
    lines = {token: line for line, token in enumerate(tokens, start=1)}
    if len(lines) < len(tokens):
        line = next(line for line, token in enumerate(tokens, start=1) if lines[token] != line)
        raise ValueError(f"tokenizer.vocab_file: {path}, line {line}: {tokens[line - 1]!r} occurs twice; remove one")
    return tokens


def wordpiece_tokenizer(vocabulary: list[str], *, lowercase: bool, source: str) -> Tokenizer:
    """Return BERT's tokenizer over `vocabulary` (token i has id i); `source` names it in errors (ValueError).

    Normalizer, pre-tokenizer and post-processor are those that transformers' BertTokenizer builds.
    """
    ids = {token: number for number, token in enumerate(vocabulary)}
    _require_special_tokens(ids, source)
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=UNK, continuing_subword_prefix=CONTINUATION))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}",
        pair=f"{CLS} $A {SEP} $B:1 {SEP}:1",
        special_tokens=[(CLS, ids[CLS]), (SEP, ids[SEP])],
    )
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION)
    return tokenizer


def _require_special_tokens(vocabulary: dict[str, int], source: str) -> None:
    missing = [token for token in SPECIAL_TOKENS if token not in vocabulary]
    if missing:
        raise ValueError(
            f"vocabulary {source} has no {' and no '.join(missing)}: pretraining needs {', '.join(SPECIAL_TOKENS)}; "
            "add what is missing (over [unused] entries, if it has some) or use another vocabulary"
        )


def _require_every_id(vocabulary: dict[str, int], source: str) -> None:
    # vocab.txt says ids by line numbers, so a hole would shift every later token.
    hole = next((wanted for wanted, number in enumerate(sorted(vocabulary.values())) if wanted != number), None)
    if hole is not None:
        raise ValueError(
            f"tokenizer.vocab_file: {source} has no token of id {hole}, but ids up to {max(vocabulary.values())}; "
            "ids must run from 0 without holes or repeats: fill the gap with [unused] tokens"
        )


def save_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Write `tokenizer.json`, `vocab.txt` and the `tokenizer_config.json` that transformers' AutoTokenizer reads."""
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = tokenizer.get_vocab()
    lines = "".join(f"{token}\n" for token in sorted(vocabulary, key=vocabulary.__getitem__))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL_TOKENS, strict=True))
    normalizer = tokenizer.normalizer
    is_bert = isinstance(normalizer, normalizers.BertNormalizer)
    config = {
        "tokenizer_class": "BertTokenizer" if is_bert else "PreTrainedTokenizerFast",
        "do_lower_case": normalizer.lowercase if is_bert else False,
        "tokenize_chinese_chars": normalizer.handle_chinese_chars if is_bert else True,
        "strip_accents": normalizer.strip_accents if is_bert else None,
        **names,
    }
    write_atomically(directory / "vocab.txt", lines.encode())
    write_atomically(directory / "tokenizer_config.json", json.dumps(config, indent=1).encode() + b"\n")
    write_atomically(directory / "tokenizer.json", tokenizer.to_str(pretty=True).encode())


def describe_tokenizer(tokenizer: Tokenizer) -> TokenizerInfo:
    """Return what the manifest says of a tokenizer that `save_tokenizer` puts beside the shards."""
    vocabulary = tokenizer.get_vocab()
    return TokenizerInfo(
        directory=TOKENIZER_FOLDER,
        sha256=sha256(tokenizer.to_str(pretty=True).encode()).hexdigest(),
        vocab_size=len(vocabulary),
        pad_id=vocabulary[PAD],
        cls_id=vocabulary[CLS],
        sep_id=vocabulary[SEP],
        mask_id=vocabulary[MASK],
        unk_id=vocabulary[UNK],
    )
