"""What launch/slurm queues and what it refuses to queue. What SLURM makes of it: tests/cluster/test_slurm_launch.py."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.launch.manifests import ROOT

SLURM = ROOT / "launch" / "slurm"
KEYS = ["shards_dir=shards of mine", "run_dir=runs/base"]


def run(script: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a script where SLURM's commands and ours are out of reach, unless the environment says otherwise."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": "/nowhere/python"} | environment
    command = [str(SLURM / script), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def dry_run(*options: str, script: str = "submit.sh", keys: list[str] = KEYS) -> list[list[str]]:
    """Return the commands that submit.sh would run, word by word."""
    result = run(script, "--dry-run", *options, "--", *keys)
    assert result.returncode == 0, result.stderr
    return [shlex.split(line) for line in result.stdout.splitlines()]


def test_a_training_is_checked_then_queued_under_a_name_that_lets_one_job_run_at_a_time() -> None:
    check, folder, job = dry_run("--nodes=4", "--gpus-per-node=a100:8", "--time=1-00:00:00", "--partition", "gpu")
    assert check[1:] == ["-m", "pretrain.check", "world_size=32", "grace_seconds=600", *KEYS]
    assert folder == ["mkdir", "-p", "runs/base"]
    assert job[0] == "sbatch"
    assert job[-3:] == [str(SLURM / "pretrain.sbatch"), *KEYS]
    wanted = ["--nodes=4", "--gpus-per-node=a100:8", "--ntasks-per-node=8", "--time=1-00:00:00", "--signal=B:USR1@600"]
    assert {*wanted, "--dependency=singleton", f"--job-name=pretrain {ROOT}/runs/base"} <= set(job)
    assert job[job.index("--partition") + 1] == "gpu"


def test_a_range_of_nodes_is_checked_at_both_ends() -> None:
    smallest, largest, *_ = dry_run("--nodes", "2-16", "--ntasks-per-node", "4", "--grace", "120")
    assert (smallest[3], largest[3]) == ("world_size=8", "world_size=64")
    assert smallest[4] == "grace_seconds=120"


def test_the_ranks_of_a_node_may_be_fewer_than_its_gpus() -> None:
    check, _, job = dry_run("--ntasks-per-node=4", "--gpus-per-node=8")
    assert check[3] == "world_size=4"
    assert {"--ntasks-per-node=4", "--gpus-per-node=8"} <= set(job)


def test_a_training_whose_shards_another_job_makes_waits_for_it_and_is_not_checked_yet() -> None:
    folder, job = dry_run("--gpus-per-node=8", "--after=17")
    assert folder[0] == "mkdir"
    assert "--dependency=afterok:17,singleton" in job


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nodes=4", "--gpus-per-node=8", *KEYS], "-- is missing"),
        (["--nodes=4", "--", *KEYS], "--gpus-per-node= is not valid: write how many, or --ntasks"),
        (["--nodes=0", "--gpus-per-node=8", "--", *KEYS], "--nodes=0 is not valid: write a number, or LEAST-MOST"),
        (["-N4", "--gpus-per-node=8", "--", *KEYS], "-N4 is not valid: write --nodes"),
        (["--gpus-per-node=8", "--gpus=32", "--", *KEYS], "--gpus=32 is not valid: write --nodes"),
        (["--gpus-per-node=8", "--gpus", "32", "--", *KEYS], "--gpus is not valid: write --nodes"),
        (["--gpus-per-node=8", "-d", "afterok:1", "--", *KEYS], "-d is not valid: write --nodes"),
        (["--gpus-per-node=8", "--job-name=mine", "--", *KEYS], "--job-name=mine is not valid: the name is that of"),
        (["--gpus-per-node=8", "--grace=soon", "--", *KEYS], "--grace=soon is not valid: write seconds"),
        (["--gpus-per-node=8", "--time=soon", "--", *KEYS], "--time=soon is not valid: write DAYS-HOURS"),
        (["--gpus-per-node=8", "--time"], "--time has no value"),
        (["--gpus-per-node=8", "--", "shards_dir=shards"], "run_dir=DIR is missing"),
    ],
)
def test_what_cannot_be_queued_is_named_with_the_remedy(arguments: list[str], message: str) -> None:
    result = run("submit.sh", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {message}")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("10", 600), ("08:09", 489), ("01:02:03", 3723), ("2-3", 183600), ("1-02:30", 95400), ("1-02:30:05", 95405)],
)
def test_a_time_limit_no_longer_than_the_grace_is_refused(time: str, seconds: int) -> None:
    """Such a job is told to leave as soon as it starts, again and again."""
    options = ["--gpus-per-node=1", f"--time={time}"]
    result = run("submit.sh", *options, f"--grace={seconds}", "--", *KEYS)
    assert result.returncode == 2
    assert f"--time is {seconds} s and --grace={seconds}: no time to train" in result.stderr
    dry_run(*options, f"--grace={seconds - 1}")


def test_what_the_check_refuses_is_not_queued(tmp_path: Path) -> None:
    result = run("submit.sh", "--ntasks-per-node=1", "--", f"run_dir={tmp_path}/run", PYTHON="/usr/bin/false")
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "")
    assert not (tmp_path / "run").exists()


CHAIN = ["--partition=cpu", "--", "corpus.paths=[raw]", "--", "--nodes=2", "--gpus-per-node=8", "--"]


def test_a_chain_is_two_preparations_a_check_and_two_phases_of_one_run() -> None:
    keys = ["shards_dir=shards", "run_dir=runs/large", "experiment=bert_large_lamb"]
    result = run("chain.sh", "--dry-run", *CHAIN, *keys, PYTHON=sys.executable)
    assert result.returncode == 0, result.stderr
    short, long, check, first, second = (shlex.split(line) for line in result.stdout.splitlines())
    assert short[-4:-1] == ["corpus.paths=[raw]", "output_dir=shards/seq128", "sequence.max_seq_length=128"]
    assert long[-4:-1] == ["corpus.paths=[raw]", "output_dir=shards/seq512", "sequence.max_seq_length=512"]
    assert short[-1] == long[-1] == "executor.work_dir=shards/tokens", "the corpus is tokenized once"
    assert {"--partition=cpu", "--dependency=afterok:shards_128"} <= set(long)
    assert {"--partition=cpu", "--dependency=afterok:shards_512", "--check"} <= set(check)
    training = ["--nodes=2", "--gpus-per-node=8", "--", *keys]
    assert check[-6:] == training[:-3] + keys
    assert first[1:] == ["--after=check", *training, "stop_after=7038"]
    assert second[1:] == ["--after=phase_1", *training]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (CHAIN[:-1], "error: -- stands 2 times among the arguments, must 3 times"),
        ([*CHAIN, "run_dir=run"], "error: shards_dir=DIR is missing"),
    ],
)
def test_a_chain_whose_parts_are_missing_is_refused(arguments: list[str], message: str) -> None:
    result = run("chain.sh", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(message)
