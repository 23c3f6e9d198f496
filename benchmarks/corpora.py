"""The real text that benchmarks of data_prep read, and larger corpora made of it."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ENGLISH = ("en_novels_dev", "en_mlperf_wiki_dev")


def shared_data() -> Path:
    """Return the folder of real corpora and vocabularies beside the checkout; end with the reason where it is not."""
    if not SHARED_DATA.is_dir():
        sys.exit(f"nothing to measure: there is no {SHARED_DATA.parent.name}/{SHARED_DATA.name} beside this checkout")
    return SHARED_DATA


def read_documents(name: str) -> list[str]:
    """Return the texts of one corpus of `shared_data`."""
    folder = shared_data() / "corpora" / name
    lines = folder / "docs.jsonl"
    if lines.is_file():
        return [json.loads(line)["text"] for line in lines.read_text(encoding="utf-8").splitlines()]
    return [path.read_text(encoding="utf-8") for path in sorted((folder / "docs").glob("*.txt"))]


def write_copies(texts: list[str], folder: Path, copies: int) -> int:
    """Write `texts` so many times as JSON Lines, one file a copy, each copy's texts with a prefix of its own.

    Returns the bytes of text. The prefix keeps data_prep from dropping the copies as duplicates.
    """
    folder.mkdir(parents=True)
    size = 0
    for copy in range(copies):
        prefixed = [f"Copy {copy + 1}. {text}" for text in texts]
        size += sum(len(text.encode()) for text in prefixed)
        write_texts(prefixed, folder / f"copy-{copy:03d}.jsonl")
    return size


def write_texts(texts: Iterable[str], path: Path) -> None:
    """Write a file of JSON Lines, a document a line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
