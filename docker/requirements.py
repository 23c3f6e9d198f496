"""`python requirements.py pyproject.toml [EXTRA …]`: print the project's dependencies, one a line."""

import sys
import tomllib
from pathlib import Path

if __name__ == "__main__":
    project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
    extras = [requirement for extra in sys.argv[2:] for requirement in project["optional-dependencies"][extra]]
    print("\n".join([*project["dependencies"], *extras]))
