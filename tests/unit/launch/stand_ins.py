"""Stand-ins that launch scripts meet on PATH: an ssh that stays on this machine, and a python that trains nothing.

What real hosts and real ranks make of the scripts: tests/cluster.
"""

import os
import sys
from pathlib import Path

# Options and their values come first. A host called gone… is out of reach; the command of others runs here.
SSH = """#!/bin/bash
while [[ $1 == -o ]]; do shift 2; done
if [[ $1 == gone* ]]; then echo "ssh: connect to host $1 port 22: No route to host" >&2; exit 255; fi
exec bash -c "$2"
"""

# Records how it was called. The script TRAIN says what torchrun does, HOST is the host that it is told to be.
PYTHON = """#!/bin/bash
case "$1 $2" in
"-m pretrain.check") echo "check ${*:3}" >>"$CALLS"; exit "${CHECK_CODE:-0}" ;;
"-m torch.distributed.run")
  echo "torchrun ${*:3}" >>"$CALLS"
  while (($#)); do
    if [[ $1 == --local-addr ]]; then HOST=$2; fi
    shift
  done
  eval "${TRAIN:-}" ;;
*) exec "$REAL_PYTHON" "$@" ;;
esac
"""


def install(folder: Path) -> dict[str, str]:
    """Write them into `folder`; return the environment in which scripts find them."""
    folder.mkdir()
    for name, text in (("ssh", SSH), ("python", PYTHON)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    own = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHON": str(folder / "python")}
    return os.environ | own | {"CALLS": str(folder / "calls"), "REAL_PYTHON": sys.executable}
