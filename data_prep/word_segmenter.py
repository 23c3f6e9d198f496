"""Where words begin in Chinese text, which has no spaces between them: for masks of whole words. By jieba, an extra."""

from itertools import accumulate


def check_segmenter() -> None:
    """Raise ValueError unless jieba is installed."""
    try:
        import jieba  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "sentences.word_segmenter=jieba needs the package jieba: install the extra `chinese` "
            "(pip install -c constraints.txt '.[chinese]')"
        ) from error


def find_word_starts(sentence: str) -> frozenset[int]:
    """Return the positions, in characters, at which jieba's words begin (its default mode, with new-word discovery)."""
    import logging

    import jieba

    jieba.setLogLevel(logging.WARNING)  # it reports on stderr how long its dictionary took to load
    return frozenset(accumulate(map(len, jieba.cut(sentence)), initial=0))
