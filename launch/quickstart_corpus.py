"""The quick start's corpus: the service documentation that the `botocore` package ships, as JSON Lines.

Real English prose that comes with a package install, so that the quick start downloads nothing else.
"""

import gzip
import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from html.parser import HTMLParser
from pathlib import Path

from tqdm import tqdm

MIN_SENTENCE_ENDS = 3
MIN_CHARACTERS = 100
NUM_FILES = 8
BLOCK_TAGS = {
    "p",
    "li",
    "ul",
    "ol",
    "dl",
    "dt",
    "dd",
    "br",
    "note",
    "important",
    "h1",
    "h2",
    "h3",
    "div",
    "table",
    "tr",
}


class _Text(HTMLParser):
    """Collects the text of HTML, one line per block."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in BLOCK_TAGS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self.handle_starttag(tag, [])

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def strip_html(html: str) -> str:
    """Return the text of `html`: one block per line, single spaces, no empty lines."""
    parser = _Text()
    parser.feed(html)
    parser.close()
    lines = (re.sub(r"\s+", " ", line).strip() for line in "".join(parser.parts).split("\n"))
    return "\n".join(line for line in lines if line)


def read_documents(service_file: Path) -> Iterator[str]:
    """Yield the texts of one service model: of the service, its operations, its data types and their members."""
    model = json.loads(gzip.decompress(service_file.read_bytes()))
    shapes = model["shapes"].values()
    members = (member for shape in shapes for member in shape.get("members", {}).values())
    for described in (model, *model["operations"].values(), *shapes, *members):
        html = described.get("documentation", "")
        if len(html) >= MIN_CHARACTERS:  # most are a few words: not worth parsing
            yield strip_html(html)


def newest_models(data_dir: Path) -> list[Path]:
    """Return the newest model of every service: older versions repeat most of its text."""
    services = sorted(path for path in data_dir.iterdir() if path.is_dir())
    versions = [sorted(service.glob("*/service-2.json.gz")) for service in services]
    return [found[-1] for found in versions if found]


def write_corpus(folder: Path) -> int:
    """Write every document of at least three sentences as `{"text": …}` lines into a new folder; return how many.

    Several files, so that several workers can read them.
    """
    import botocore

    models = newest_models(Path(botocore.__file__).parent / "data")
    temporary, count = folder.with_name(f".{folder.name}.tmp"), 0
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    with ExitStack() as files:
        outputs = [
            files.enter_context((temporary / f"botocore-{number}.jsonl").open("w", encoding="utf-8"))
            for number in range(NUM_FILES)
        ]
        for model in tqdm(models, desc="corpus", unit="service", disable=None):
            for text in read_documents(model):
                if len(re.findall(r"[.!?](?:\s|$)", text)) >= MIN_SENTENCE_ENDS:
                    outputs[count % NUM_FILES].write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                    count += 1
    temporary.rename(folder)
    return count


if __name__ == "__main__":
    print(f"{write_corpus(Path(sys.argv[1])):,} documents in {sys.argv[1]}")
