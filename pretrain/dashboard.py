"""`python -m pretrain.dashboard ENTITY/PROJECT`: lay a W&B project's panels out as a saved workspace."""

import argparse
import sys
from collections.abc import Sequence

from pretrain.track.wandb_workspace import build_workspace, save_workspace


def main(arguments: Sequence[str] | None = None) -> int:
    """Save the workspace and print its address; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pretrain.dashboard", description="Lay out a W&B project's panels.")
    parser.add_argument("project", metavar="ENTITY/PROJECT", help="where the runs are, as in the project's address")
    parser.add_argument("--name", default="Pretraining", help="what the saved view is called (default: Pretraining)")
    options = parser.parse_args(arguments)
    entity, slash, project = options.project.partition("/")
    if not entity or not slash or not project or "/" in project:
        parser.error(f"{options.project!r} is not ENTITY/PROJECT, as my-team/lambert")
    try:
        print(save_workspace(build_workspace(entity, project, name=options.name)))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
