"""The W&B workspace has the panels of the table; it is built without a server, and saved only with one."""

import os
import re
import subprocess
import sys

import pytest

from pretrain.dashboard import main
from pretrain.track.panels import SECTIONS
from pretrain.track.wandb_workspace import build_workspace

workspaces = pytest.importorskip("wandb_workspaces", reason="the extra `dashboard` is not installed")


@pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # theirs
def test_the_workspace_has_the_sections_panels_and_metrics_of_the_table():
    view = build_workspace("team", "lambert", name="Pretraining")._to_model()
    sections = view.spec.section.panel_bank_config.sections
    built = {
        section.name: [(panel.config.chart_title, tuple(panel.config.metrics)) for panel in section.panels]
        for section in sections
    }
    assert built == {section.title: [(panel.title, panel.metrics) for panel in section.panels] for section in SECTIONS}
    assert (view.entity, view.project, view.display_name) == ("team", "lambert", "Pretraining")
    configs = {panel.config.chart_title: panel.config for section in sections for panel in section.panels}
    assert configs["Gradient norm"].y_log_scale
    assert configs["Step time"].y_axis_min == 0
    assert {config.x_axis for config in configs.values()} == {"step"}
    pattern = configs["Trust ratio by layer"].metric_regex
    assert re.fullmatch(pattern, "trust_ratio/layers.3")
    assert not re.fullmatch(pattern, "trust_ratio_min")


@pytest.mark.parametrize("project", ["lambert", "/lambert", "team/", "team/lambert/more"])
def test_a_project_needs_its_entity(capsys: pytest.CaptureFixture[str], project: str):
    with pytest.raises(SystemExit, match="2"):
        main([project])
    assert f"{project!r} is not ENTITY/PROJECT" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["", pytest.param("0" * 40, marks=pytest.mark.slow, id="server")])  # it tries for 20 s
def test_without_a_key_or_a_server_it_ends_with_one_line(key: str):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": key, "NETRC": os.devnull}
    command = [sys.executable, "-m", "pretrain.dashboard", "team/lambert"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
