"""The report in a real headless Chromium: it draws, its script runs, and it asks for nothing over the network."""

import shutil
import subprocess
from pathlib import Path

import pytest
from matplotlib.image import imread

from pretrain.report.__main__ import main
from tests.unit.pretrain.report.example_run import write_example

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine (Debian: apt-get install chromium)")
SIZE = (1200, 2400)


def browse(page: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",  # which root has to do without
        "--disable-gpu",
        "--disable-background-networking",
        f"--user-data-dir={page.parent / 'profile'}",
        f"--window-size={SIZE[0]},{SIZE[1]}",
        "--enable-logging=stderr",  # the page's console too, as lines with CONSOLE
        *arguments,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


def console(browsed: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in browsed.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = write_example(tmp_path_factory.mktemp("browser") / "run")
    assert main([str(run_dir)]) == 0
    return run_dir / "report.html"


def test_the_page_is_drawn_without_a_word_on_the_console(page: Path) -> None:
    picture = page.with_name("page.png")
    browsed = browse(page, f"--screenshot={picture}", "--hide-scrollbars")
    assert console(browsed) == []
    image = imread(picture)[..., :3]
    assert image.shape[:2] == (SIZE[1], SIZE[0])
    blue = abs(image - (0.0, 0x72 / 255, 0xB2 / 255)).max(axis=-1) < 0.02
    assert 0.001 < blue.mean() < 0.2  # curves and bars of the first colour
    assert (image.min(axis=-1) < 0.5).mean() > 0.005  # text


def test_the_script_tells_the_values_under_the_pointer(page: Path) -> None:
    pointed = page.with_name("pointed.html")
    point = """<script>
        const plotted = document.querySelector("figure svg"), box = plotted.getBoundingClientRect();
        const middle = {clientX: box.left + box.width / 2, clientY: box.top + box.height / 2};
        plotted.dispatchEvent(new PointerEvent("pointermove", middle));
    </script></body>"""
    pointed.write_text(page.read_text().replace("</body>", point))
    browsed = browse(pointed, "--dump-dom")
    assert console(browsed) == []
    assert "<output>step 50: training 4.282, held-out 4</output>" in browsed.stdout
    assert browsed.stdout.count('class="pointer on"') == browsed.stdout.count("application/json") > 5


def test_an_error_or_a_request_would_have_been_seen(page: Path) -> None:
    """The page forbids the network to itself: what it then asks for, the browser tells on the console."""
    bad = page.with_name("bad.html")
    asking = '<img src="https://example.org/x.png"><script>undefined_name</script></body>'
    bad.write_text(page.read_text().replace("</body>", asking))
    told = " ".join(console(browse(bad, "--dump-dom")))
    assert "Content Security Policy" in told
    assert "undefined_name is not defined" in told
