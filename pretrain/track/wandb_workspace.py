"""The panels of `pretrain.track.panels` as a saved workspace of a W&B project."""

import re
from typing import Any

from pretrain.track.panels import SECTIONS, Panel, Section


def build_workspace(entity: str, project: str, *, name: str) -> Any:
    """Return a `wandb_workspaces.workspaces.Workspace` with all panels; no server is asked.

    Raises ValueError when the package is missing.
    """
    try:
        from wandb_workspaces import workspaces
    except ImportError as error:
        raise ValueError(
            f"the dashboard needs wandb-workspaces ({error}): pip install --constraint constraints.txt '.[dashboard]'"
        ) from error
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[_section(section) for section in SECTIONS],
        settings=workspaces.WorkspaceSettings(x_axis="step", group_by_prefix="first"),
    )


def save_workspace(workspace: Any) -> str:
    """Save a workspace on the server, as a new view of its project; return its address.

    Raises ValueError when there is no key, no such project, or no server.
    """
    import wandb

    from pretrain.track.wandb_start import first_line

    try:
        workspace.save()
        return str(workspace.url)
    except (wandb.Error, OSError, ValueError, RuntimeError) as error:
        reason = first_line(error).rstrip(".")
        raise ValueError(
            f"the workspace of {workspace.entity}/{workspace.project} was not saved: {reason}. Check the name of the "
            "project, the key (`wandb login` or WANDB_API_KEY) and the network"
        ) from error


def _section(section: Section) -> Any:
    from wandb_workspaces import workspaces

    panels = [_panel(panel) for panel in section.panels]
    return workspaces.Section(name=section.title, panels=panels, is_open=True)


def _panel(panel: Panel) -> Any:
    from wandb_workspaces.reports.v2.interface import LinePlot

    return LinePlot(
        title=panel.title,
        title_y=panel.unit,
        x="step",
        y=list(panel.metrics),
        metric_regex=f"{re.escape(panel.layers)}.*" if panel.layers else None,
        log_y=panel.logarithmic,
        range_y=(0 if panel.from_zero else None, None),
    )
