"""A vocabulary -> the tokenizer, and the folder beside the shards that holds it."""

import json
from hashlib import sha256
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from data_prep.atomic_file import write_atomically
from data_prep.byte_bpe import byte_bpe_files, read_byte_bpe, require_byte_model
from data_prep.config import TokenizerKind
from data_prep.manifest import TOKENIZER_FILES, TokenizerInfo
from data_prep.special_tokens import BYTE_BPE, UNIGRAM, WORDPIECE, require_every_id, require_special_tokens
from data_prep.unigram import require_unigram_model, unigram_files

CONTINUATION = "##"
TOKENIZER_FOLDER = "tokenizer"

MODELS = {
    models.WordPiece: TokenizerKind.wordpiece,
    models.BPE: TokenizerKind.byte_bpe,
    models.Unigram: TokenizerKind.unigram,
}
SPECIAL_TOKENS = {
    TokenizerKind.wordpiece: WORDPIECE,
    TokenizerKind.byte_bpe: BYTE_BPE,
    TokenizerKind.unigram: UNIGRAM,
}
NAMES = {
    TokenizerKind.wordpiece: "a vocab.txt or a tokenizer.json",
    TokenizerKind.byte_bpe: "a vocab.json or a tokenizer.json",
    TokenizerKind.unigram: "a tokenizer.json, which published models have beside their spiece.model",
}


def load_tokenizer(path: Path, *, lowercase: bool, kind: TokenizerKind = TokenizerKind.wordpiece) -> Tokenizer:
    """Return the tokenizer of a file of its kind: a `tokenizer.json`, or what `kind` has instead.

    WordPiece: a `vocab.txt`, with BERT's clean-up, `lowercase` or not. Byte-level BPE: a `vocab.json` with its merges
    beside it. Raises ValueError when a file is missing, is no vocabulary of that kind, lacks a special token or leaves
    out an id.
    """
    if not path.is_file():
        raise ValueError(f"tokenizer.vocab_file: {path} does not exist; name {NAMES[kind]}")
    if kind is TokenizerKind.wordpiece and path.suffix != ".json":
        return wordpiece_tokenizer(_read_vocabulary(path), lowercase=lowercase, source=str(path))
    if kind is TokenizerKind.byte_bpe and not _is_tokenizer_json(path):
        return read_byte_bpe(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception for whatever it cannot parse
        is_wordpiece = kind is TokenizerKind.wordpiece
        hint = "a vocab.json needs tokenizer.kind=byte_bpe" if is_wordpiece else f"name {NAMES[kind]}"
        raise ValueError(
            f"tokenizer.vocab_file: {path} is no tokenizer.json of this library: {error}; {hint}"
        ) from error
    _require_model(tokenizer, kind, str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _is_tokenizer_json(path: Path) -> bool:
    """Return whether a JSON file describes a tokenizer; else it may be a vocab.json."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(values, dict) and isinstance(values.get("model"), dict)


def _require_model(tokenizer: Tokenizer, kind: TokenizerKind, source: str) -> None:
    """Raise ValueError unless a tokenizer is of the kind, and one that shards can be made with."""
    found = MODELS.get(type(tokenizer.model))
    if found is not kind:
        needed = next(model.__name__ for model, name in MODELS.items() if name is kind)
        remedy = f"; say tokenizer.kind={found.value}" if found else ""
        raise ValueError(
            f"tokenizer.vocab_file: {source} holds a {type(tokenizer.model).__name__} model; "
            f"tokenizer.kind={kind.value} needs {needed}{remedy}"
        )
    if kind is TokenizerKind.byte_bpe:
        require_byte_model(tokenizer, source)
    elif kind is TokenizerKind.unigram:
        require_unigram_model(tokenizer, source)
    else:
        require_special_tokens(tokenizer.get_vocab(), WORDPIECE, source)
        require_every_id(tokenizer.get_vocab(), source)


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
    require_special_tokens(ids, WORDPIECE, source)
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=WORDPIECE.unk, continuing_subword_prefix=CONTINUATION))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in WORDPIECE])
    cls, sep = WORDPIECE.cls, WORDPIECE.sep
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, ids[cls]), (sep, ids[sep])],
    )
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Write `tokenizer.json` and what transformers' AutoTokenizer and older tools read beside it, by the model's kind.

    Files of another kind, which an interrupted run may have left, are removed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files = FILES[kind_of(tokenizer)](tokenizer) | {"tokenizer.json": tokenizer.to_str(pretty=True).encode()}
    for name in {name for names in TOKENIZER_FILES.values() for name in names} - set(files):
        (directory / name).unlink(missing_ok=True)
    for name, data in files.items():
        write_atomically(directory / name, data)


def kind_of(tokenizer: Tokenizer) -> TokenizerKind:
    """Return what the tokens of a tokenizer are that `load_tokenizer` gave."""
    return MODELS[type(tokenizer.model)]


def _wordpiece_files(tokenizer: Tokenizer) -> dict[str, bytes]:
    vocabulary = tokenizer.get_vocab()
    lines = "".join(f"{token}\n" for token in sorted(vocabulary, key=vocabulary.__getitem__))
    normalizer = tokenizer.normalizer
    is_bert = isinstance(normalizer, normalizers.BertNormalizer)
    config = {
        "tokenizer_class": "BertTokenizer" if is_bert else "PreTrainedTokenizerFast",
        "do_lower_case": normalizer.lowercase if is_bert else False,
        "tokenize_chinese_chars": normalizer.handle_chinese_chars if is_bert else True,
        "strip_accents": normalizer.strip_accents if is_bert else None,
        **{f"{name}_token": token for name, token in WORDPIECE._asdict().items()},
    }
    return {"vocab.txt": lines.encode(), "tokenizer_config.json": json.dumps(config, indent=1).encode() + b"\n"}


FILES = {
    TokenizerKind.wordpiece: _wordpiece_files,
    TokenizerKind.byte_bpe: byte_bpe_files,
    TokenizerKind.unigram: unigram_files,
}
"""What stands beside `tokenizer.json`."""


def describe_tokenizer(tokenizer: Tokenizer) -> TokenizerInfo:
    """Return what the manifest says of a tokenizer that `save_tokenizer` puts beside the shards."""
    vocabulary = tokenizer.get_vocab()
    special = SPECIAL_TOKENS[kind_of(tokenizer)]
    return TokenizerInfo(
        directory=TOKENIZER_FOLDER,
        sha256=sha256(tokenizer.to_str(pretty=True).encode()).hexdigest(),
        vocab_size=len(vocabulary),
        pad_id=vocabulary[special.pad],
        cls_id=vocabulary[special.cls],
        sep_id=vocabulary[special.sep],
        mask_id=vocabulary[special.mask],
        unk_id=vocabulary[special.unk],
    )
