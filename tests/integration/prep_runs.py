"""A corpus small enough to prepare in seconds, and the command as a user types it."""

import json
import sys
from pathlib import Path

TEXT = "the old river runs past a quiet town where seven people keep bees and sell honey in small jars"
WORDS = TEXT.split()
KEYS = [
    "corpus.format=jsonl",
    "tokenizer.vocab_size=150",
    "dupe_factor=2",
    "held_out_fraction=0.2",
    "sequence.max_seq_length=32",
    "executor.bucket_bytes=12000",
]


def write_corpus(folder: Path, num_files: int = 6, documents: int = 10) -> Path:
    """Distinct documents of distinct sentences, one exact duplicate and one empty document in all."""
    folder.mkdir(parents=True)
    for number in range(num_files):
        lines = []
        for document in range(documents):
            shift = number * documents + document
            sentences = [
                " ".join(WORDS[(shift * 7 + line * 3 + word * (1 + shift % 5)) % len(WORDS)] for word in range(9))
                for line in range(8)
            ]
            lines.append({"text": f"Number {shift} here. " + ". ".join(s.capitalize() for s in sentences) + "."})
        (folder / f"{number}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    first = (folder / "0.jsonl").read_text().splitlines()[0]
    with (folder / f"{num_files - 1}.jsonl").open("a") as file:
        file.write(f"{first}\n" + json.dumps({"text": " \u200b "}) + "\n")
    return folder


def arguments(corpus: Path, output_dir: Path, *more: str) -> list[str]:
    return [f"output_dir={output_dir}", f"corpus.paths=[{corpus}]", *KEYS, *more]


def command(*arguments_: str) -> list[str]:
    return [sys.executable, "-m", "data_prep", *arguments_]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file beside the hidden work folder, hidden temporary files included."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".work" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
