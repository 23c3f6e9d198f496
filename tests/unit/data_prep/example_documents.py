"""Small tokenized corpora for tests: random ones, hypothesis strategies, and real text."""

import json
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from tokenizers import Tokenizer

from data_prep.tokenized import TokenizedDocuments

FIRST_ORDINARY_ID = 5  # 0 to 4 are [PAD] [UNK] [CLS] [SEP] [MASK]


def documents_of(
    sentence_lengths: Sequence[Sequence[int]], *, vocab_size: int = 60, seed: int = 0, word_start_share: float = 0.7
) -> TokenizedDocuments:
    """Return documents with the given sentence lengths and random tokens; ids are those of their tokens."""
    rng = np.random.default_rng(seed)
    flat = np.array([length for document in sentence_lengths for length in document], dtype=np.uint16)
    token_ids = rng.integers(FIRST_ORDINARY_ID, vocab_size, size=int(flat.sum(dtype=int))).astype(np.uint16)
    word_starts = rng.random(len(token_ids)) < word_start_share
    word_starts[np.cumsum(flat, dtype=int) - flat] = True
    stops = np.cumsum([sum(document) for document in sentence_lengths], dtype=int)
    digests = [
        blake2b(part.tobytes() + bytes([number % 256]), digest_size=16).digest()
        for number, part in enumerate(np.split(token_ids, stops[:-1]))
    ]
    return TokenizedDocuments(
        ids=np.frombuffer(b"".join(digests), dtype="V16"),
        sources=np.zeros(len(digests), dtype=np.uint8),
        document_sentences=np.array([len(document) for document in sentence_lengths], dtype=np.uint32),
        sentence_lengths=flat,
        token_ids=token_ids,
        word_starts=word_starts,
    )


@st.composite
def documents_strategy(draw: st.DrawFn, max_documents: int = 8, max_sentence: int = 40) -> TokenizedDocuments:
    lengths = draw(
        st.lists(st.lists(st.integers(1, max_sentence), min_size=1, max_size=12), min_size=1, max_size=max_documents)
    )
    share = draw(st.sampled_from([0.0, 0.5, 1.0]))
    return documents_of(lengths, seed=draw(st.integers(0, 1000)), word_start_share=share)


def prose_like_documents(count: int, seed: int = 0) -> TokenizedDocuments:
    """Return `count` documents of 1 to 60 sentences of about 23 tokens, as in English prose."""
    rng = np.random.default_rng(seed)
    lengths = [(1 + rng.poisson(22, size=rng.integers(1, 60))).tolist() for _ in range(count)]
    return documents_of(lengths, seed=seed)


def wikipedia_documents(shared_data: Path, tokenizer: Tokenizer, count: int) -> TokenizedDocuments:
    """Return the first `count` articles; sentences end at a full stop, which is near enough for tests."""
    with (shared_data / "corpora" / "en_mlperf_wiki_dev" / "docs.jsonl").open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for _, line in zip(range(count), lines, strict=False)]
    sentences = [text.replace("\n", " ").split(". ") for text in texts]
    encoded = [
        [one for one in tokenizer.encode_batch(document, add_special_tokens=False) if one.ids] for document in sentences
    ]
    flat = [one for document in encoded for one in document]
    words = [one.word_ids for one in flat]
    return TokenizedDocuments(
        ids=np.frombuffer(b"".join(blake2b(text.encode(), digest_size=16).digest() for text in texts), dtype="V16"),
        sources=np.zeros(len(texts), dtype=np.uint8),
        document_sentences=np.array([len(document) for document in encoded], dtype=np.uint32),
        sentence_lengths=np.array([len(one.ids) for one in flat], dtype=np.uint16),
        token_ids=np.array([token for one in flat for token in one.ids], dtype=np.uint16),
        word_starts=np.array([at == 0 or of[at] != of[at - 1] for of in words for at in range(len(of))]),
    )
