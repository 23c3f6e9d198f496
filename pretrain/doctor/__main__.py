"""`python -m pretrain.doctor [run_dir=DIR] [shards_dir=DIR] [--json]`: what this machine has and what it lacks."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from conf.compose import compose
from pretrain.doctor.finding import INSTALL, Finding, Verdict, broken

HELP, JSON = "--help", "--json"
EXIT_BROKEN, EXIT_USER_ERROR = 1, 2


@dataclass(kw_only=True, slots=True)
class DoctorConfig:
    """Folders whose file systems are tried; null leaves one out."""

    run_dir: str | None
    shards_dir: str | None


def main(arguments: Sequence[str]) -> int:
    """Print what was found; return 0, 1 when something is broken, or 2 for a wrong argument."""
    if HELP in arguments:
        print(__doc__)
        return 0
    try:
        config = compose("doctor", DoctorConfig, [argument for argument in arguments if argument != JSON])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    findings = examine(config)
    faults = [finding.name for finding in findings if finding.verdict is Verdict.broken]
    if JSON in arguments:
        print(json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False))
    else:
        ending = f"no training can run here before this is mended: {', '.join(faults)}"
        print(*findings, ending if faults else "nothing is broken: a training can run here", sep="\n")
    return EXIT_BROKEN if faults else 0


def examine(config: DoctorConfig) -> list[Finding]:
    """Return everything that was found; the folders come last and take seconds."""
    try:
        from pretrain.doctor.devices import examine_devices
        from pretrain.doctor.folders import examine_run_dir, examine_shards_dir
        from pretrain.doctor.host import examine_host
        from pretrain.doctor.software import examine_software
    except (ImportError, OSError) as error:  # torch's libraries may not fit this host
        return [broken("python", f"{sys.executable}: {error}", INSTALL)]
    findings = [*examine_software(), *examine_devices(), *examine_host()]
    if config.run_dir is not None:
        findings.append(examine_run_dir(Path(config.run_dir)))
    if config.shards_dir is not None:
        findings.append(examine_shards_dir(config.shards_dir))
    return findings


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
