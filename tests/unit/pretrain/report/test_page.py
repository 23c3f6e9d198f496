import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pretrain.report.__main__ import main
from pretrain.track.events import EventKind, append_event
from pretrain.track.metrics_file import MetricsLog
from tests.unit.pretrain.report.example_run import record_of, write_example, write_status


class Outline(HTMLParser):
    """What a page holds: tags that were opened and not closed, figures, every address it names, its text."""

    VOID = ("meta", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.figures: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open += [] if tag in self.VOID else [tag]
        self.addresses += [value for name, value in attrs if name in ("href", "src", "data", "action")]
        self.figures += [value for name, value in attrs if tag == "svg" and name == "aria-label"]

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def report(run_dir: Path, *arguments: str) -> Outline:
    output = run_dir / "page.html"
    assert main([str(run_dir), "--output", str(output), *arguments]) == 0
    return Outline(output.read_text())


def test_the_page_shows_what_the_metrics_hold_and_nothing_else(tmp_path: Path) -> None:
    page = report(write_example(tmp_path))
    assert page.open == []
    assert page.figures == [
        "Time line of the run",
        "Masked-token loss",
        "Masked-token accuracy",
        "Loss, both terms",
        "Learning rate",
        "Gradient norm",
        "Trust ratios",
        "Trust ratio by layer",
        "Real tokens per second",
        "Step time",
        "Phase",
        "Tokens seen",
    ]
    for words in (
        "stopped: SIGUSR1",
        "step 120 of 150 (80.0%)",
        "goes on from step-00000030 on 2 (before: 4) × cpu",
        "killed after step 40",
        "alert: step 41 has not finished for 60 s",
        "on 2 (before: 4) × cpu, 1 host, bf16",
        "unigram entropy of the held-out labels 6.2",
        "held-out 3",
        "<seq512>",
        "20 of 50",
        "layers.10",
    ):
        assert words in page.text, words


def test_the_page_names_no_address_and_forbids_the_network(tmp_path: Path) -> None:
    page = report(write_example(tmp_path))
    text = (tmp_path / "page.html").read_text()
    assert page.addresses == ["data:,"]
    assert "default-src 'none'" in text
    assert set(re.findall(r"https?://[\w./]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, not a place
    assert "url(" not in text
    assert "@import" not in text


def test_what_the_files_say_is_text_and_never_markup(tmp_path: Path) -> None:
    write_example(tmp_path)
    mark = "\"'><script>document.title=1</script>"
    start = {"step": 120, "world_size": 2, "hosts": 1, "checkpoint": mark, "device": mark, "precision": mark}
    append_event(tmp_path, EventKind.start, **start)
    append_event(tmp_path, EventKind.alert, title=mark, text=mark)
    append_event(tmp_path, EventKind.end, state=mark, step=120, reason=mark)
    write_status(tmp_path, mark, 120, reason=mark)
    (tmp_path / "run.json").write_text(json.dumps({"run_id": mark}))
    (tmp_path / "checkpoints" / "latest").write_text(mark)
    (tmp_path / "config.yaml").write_text((tmp_path / "config.yaml").read_text().replace("<seq512>", "</script><b>"))
    with MetricsLog(tmp_path) as log:
        log.append(record_of(130) | {f"trust_ratio/{mark}": 0.5})
    page = report(tmp_path)
    assert page.open == []
    assert "<script>document" not in (tmp_path / "page.html").read_text()
    assert page.text.count(mark) >= 8


def test_cost_is_told_in_device_hours_and_in_money(tmp_path: Path) -> None:
    write_example(tmp_path)
    assert "device-hours" in report(tmp_path).text
    text = (tmp_path / "page.html").read_text()
    assert "<td>so far</td><td>0.22</td><td>" in text
    report(tmp_path, "--cost-per-hour", "90")
    assert "<td>so far</td><td>0.22</td><td>20.00</td>" in (tmp_path / "page.html").read_text()


def test_counts_are_drawn_once_there_is_something_to_count_on_axes_of_whole_numbers(tmp_path: Path) -> None:
    write_example(tmp_path)
    with MetricsLog(tmp_path) as log:
        log.append(record_of(130, skipped_steps=1))
    page = report(tmp_path)
    assert "Skipped steps" in page.figures
    figure = (tmp_path / "page.html").read_text().split("<svg")[page.figures.index("Skipped steps") + 1]
    marks = re.findall(r'text-anchor="end">([^<]+)</text>', figure)
    assert [mark for mark in marks if mark not in ("step", "&lt;seq512&gt;")] == ["0", "1"]


def test_ranks_are_dots_that_no_line_joins(tmp_path: Path) -> None:
    write_example(tmp_path)
    with MetricsLog(tmp_path) as log:
        for step, rank in ((130, 7), (140, 0)):
            log.append(record_of(step, slowest_rank=rank))
    page = report(tmp_path)
    figure = (tmp_path / "page.html").read_text().split("<svg")[page.figures.index("Which rank is slowest") + 1]
    assert (figure.count("<circle"), figure.count("<path")) == (2, 0)


@pytest.mark.parametrize("lines", [0, 1])
def test_a_run_that_has_hardly_begun_has_a_page(tmp_path: Path, lines: int) -> None:
    write_status(tmp_path, "running", 0)
    with MetricsLog(tmp_path) as log:
        for step in range(1, lines + 1):
            log.append(record_of(step))
    page = report(tmp_path)
    assert page.open == []
    assert ("No step is logged yet." in page.text) == (lines == 0)
    assert ("Masked-token loss" in page.figures) == (lines == 1)


def test_a_diverged_run_is_drawn_up_to_there_and_says_so(tmp_path: Path) -> None:
    write_example(tmp_path)
    with MetricsLog(tmp_path) as log:
        log.append(record_of(130, mlm_loss=math.nan, grad_norm=math.inf))
        log.append(record_of(140, mlm_loss=math.inf, grad_norm=0.0))
    page = report(tmp_path)
    assert page.text.count("(1 not drawn: not finite)") == 0
    assert page.text.count("(2 not drawn: not finite)") == 2
    assert "NaN" not in (tmp_path / "page.html").read_text().replace("isNaN", "")


def test_a_hundred_thousand_lines_make_a_small_page_that_keeps_a_spike(tmp_path: Path) -> None:
    write_example(tmp_path)
    line = json.dumps(record_of(140))
    spiked = json.dumps(record_of(77_777) | {"loss": 512.0})
    with (tmp_path / "metrics.jsonl").open("w") as file:
        for step in range(1, 100_001):
            file.write((spiked if step == 77_777 else line.replace('"step": 140', f'"step": {step}', 1)) + "\n")
    page = report(tmp_path)
    assert (tmp_path / "page.html").stat().st_size < 2_000_000
    loss = page.figures.index("Loss, both terms")
    figure = (tmp_path / "page.html").read_text().split("<svg")[loss + 1]
    assert ">500</text>" in figure  # a mark of an axis that reaches the spike


def test_the_command_tells_where_the_page_is_and_refuses_what_is_no_run(tmp_path: Path) -> None:
    write_example(tmp_path)
    command = [sys.executable, "-m", "pretrain.report"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{tmp_path / 'report.html'}\n", "")
    (tmp_path / "none").mkdir()
    refused = subprocess.run([*command, str(tmp_path / "none")], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "it is not the run_dir of a training" in refused.stderr


def test_the_report_needs_neither_torch_nor_matplotlib(tmp_path: Path) -> None:
    """Over ssh it has to be there at once."""
    code = "import sys, pretrain.report.__main__; print({'torch', 'matplotlib', 'wandb'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
