"""`python -m pretrain.doctor [run_dir=DIR] [shards_dir=DIR] [--json]`: what this machine has and what it lacks."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from conf.compose import compose
from pretrain.doctor.devices import examine_devices
from pretrain.doctor.finding import Finding, Verdict
from pretrain.doctor.folders import examine_run_dir, examine_shards_dir
from pretrain.doctor.host import examine_host
from pretrain.doctor.software import examine_software

JSON = "--json"
EXIT_BROKEN, EXIT_USER_ERROR = 1, 2


@dataclass(kw_only=True, slots=True)
class DoctorConfig:
    """Folders whose file systems are tried; null leaves one out."""

    run_dir: str | None
    shards_dir: str | None


def main(arguments: Sequence[str]) -> int:
    """Print a line for each thing; return 0, 1 when something is broken, or 2 for a wrong argument."""
    try:
        config = compose("doctor", DoctorConfig, [argument for argument in arguments if argument != JSON])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    findings = examine(config)
    if JSON in arguments:
        print(json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False))
    else:
        print("\n".join(map(str, findings)))
    return EXIT_BROKEN if any(finding.verdict is Verdict.broken for finding in findings) else 0


def examine(config: DoctorConfig) -> list[Finding]:
    """Return everything that was found; the folders come last and take seconds."""
    findings = [*examine_software(), *examine_devices(), *examine_host()]
    if config.run_dir is not None:
        findings.append(examine_run_dir(Path(config.run_dir)))
    if config.shards_dir is not None:
        findings.append(examine_shards_dir(config.shards_dir))
    return findings


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
