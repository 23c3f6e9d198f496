"""A cleaned text -> its sentences, by sentencex."""

from collections.abc import Sequence

import sentencex

# sentencex falls back to English for any code, known or not, so a typing error must be caught here.
_ISO_639_1 = (
    "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en "
    "eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv "
    "ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne "
    "ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss "
    "st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)


def check_language(language: str, key: str = "sentences.language") -> None:
    """Raise ValueError that names `key` unless `language` is an ISO 639-1 code, or one and a subtag (`zh`, `pt-br`)."""
    if language.partition("-")[0] not in _ISO_639_1.split():
        raise ValueError(
            f"{key}={language!r} is not an ISO 639-1 code: use one such as en, de, es, fr, hi, ja, ru "
            "or zh (for a language without such a code, the one whose punctuation is nearest)"
        )


def split_sentences(text: str, language: str) -> list[str]:
    """Return the sentences of a cleaned text, in order, none blank. An empty line ends a sentence, a newline does not.

    Joined, they are the text but for white space between them.
    """
    return [stripped for sentence in sentencex.segment(language, text) if (stripped := sentence.strip())]


def as_in_running_text(text: str, sentences: Sequence[str]) -> list[str]:
    """Return the sentences of a cleaned text with a space before each that has white space before it in the text.

    Any white space inside them becomes one space. Joined, they are `" ".join(text.split())`.
    """
    spaced: list[str] = []
    stop = 0
    for sentence in sentences:
        start = text.index(sentence, stop)
        spaced.append(" " * (start > stop > 0) + " ".join(sentence.split()))
        stop = start + len(sentence)
    return spaced
