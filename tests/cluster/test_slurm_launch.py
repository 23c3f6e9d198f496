"""launch/slurm on a real SLURM: what comes back, what stays away, and what a run looks like that was sent about."""

import re
import string
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from data_prep.__main__ import main
from tests.cluster.commands import run, wait_for
from tests.cluster.slurm import Cluster
from tests.cluster.training import HANG_SECONDS, assert_same_sequences, command, held_until_told, status
from tests.distributed.kills import Life
from tests.distributed.runs import lines
from tests.integration.prep_runs import arguments as prep_arguments
from tests.integration.prep_runs import contents, write_corpus
from tests.integration.ranks import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SLURM = ROOT / "launch" / "slurm"
PATIENCE = "engine.collective_timeout_seconds=60"  # a busy machine is no lost rank
TOLD_TRAINER = Path(__file__).with_name("told_trainer.py")


@pytest.fixture(autouse=True)
def what_the_jobs_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name, value in (("PYTHON", sys.executable), ("PYTHONPATH", str(ROOT)), ("RESTART_SECONDS", "1")):
        monkeypatch.setenv(name, value)


def wait_for_steps(cluster: Cluster, job: str, run_dir: Path, number: int = 3) -> None:
    """Return once this life of the run has logged so many steps."""
    life = Life(run_dir)
    wait_for(lambda: life.steps() >= number, HANG_SECONDS, lambda: f"{cluster.job(job)}\n{log_of(run_dir, job)}")


def log_of(run_dir: Path, job: str) -> str:
    return (run_dir / f"slurm-{job}.log").read_text()


def submit_told(cluster: Cluster, run_dir: Path, lives: str, *options: str) -> str:
    """Queue a job of one rank that lives so, where nothing preempts it; it may start again once without getting on."""
    run_dir.mkdir()
    (run_dir / "lives").write_text(lives)
    python = run_dir / "python"
    python.write_text(
        f'#!/bin/sh\nif [ "$1 $2" = "-m pretrain" ]; then shift 2; set -- "{TOLD_TRAINER}" "$@"; fi\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    script = ["sbatch", "--parsable", "--ntasks-per-node=1", "--cpus-per-task=1", f"--output={run_dir}/slurm-%j.log"]
    command = [*script, *cluster.undisturbed, *options, SLURM / "pretrain.sbatch", f"run_dir={run_dir}"]
    return cluster.submit(*command, PYTHON=str(python), RESTARTS="1", RESTART_SECONDS="1")


@pytest.fixture(scope="module")
def out_of_time(slurm_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    """Jobs that run out of time, side by side, by their run directories.

    SLURM may send the signal up to a minute early: so they work for half a minute at least.
    """
    folder = tmp_path_factory.mktemp("out_of_time")
    options = ["--time=2", "--signal=B:USR1@30"]
    lives = {folder / "leaves": "leave done", folder / "pauses": "pause done", folder / "hangs": "hang done"}
    return {run_dir: submit_told(slurm_cluster, run_dir, words, *options) for run_dir, words in lives.items()}


def test_a_run_that_is_told_to_leave_and_preempted_ends_as_one_that_nobody_disturbed(
    slurm_cluster: Cluster, shards: Path, whole: Path, tmp_path: Path
) -> None:
    run_dir, after = tmp_path / "run", tmp_path / "after"
    options = ["--nodes=2", "--ntasks-per-node=1", "--grace", "60", "--"]
    job = slurm_cluster.submit(SLURM / "submit.sh", *options, *command(shards, run_dir, PATIENCE))
    dependent = slurm_cluster.submit(
        "sbatch", f"--dependency=afterok:{job}", f"--output={tmp_path}/dependent", f"--wrap=touch {after}"
    )

    wait_for_steps(slurm_cluster, job, run_dir)
    with held_until_told(run_dir):
        run("scancel", "--batch", "--signal=USR1", job)
    slurm_cluster.start_now(job)
    assert (status(run_dir)["state"], status(run_dir)["reason"]) == ("stopped", "SIGUSR1")

    wait_for_steps(slurm_cluster, job, run_dir)
    urgent = ["sbatch", "--partition=urgent", "--nodes=2", "--ntasks-per-node=5", "--output=/dev/null", "--wrap=true"]
    with held_until_told(run_dir):
        preempting = slurm_cluster.submit(*urgent)
    slurm_cluster.wait_until(preempting, "COMPLETED")
    assert status(run_dir)["state"] == "stopped"
    assert not after.exists(), "what depends on a job does not start while it waits to come back"

    slurm_cluster.start_now(job)
    assert slurm_cluster.wait_until(job, "COMPLETED", "FAILED", seconds=HANG_SECONDS)["Restarts"] == "2"
    assert status(run_dir)["state"] == "done", log_of(run_dir, job)
    assert lines(run_dir) == lines(whole)
    assert not (run_dir / "metrics.discarded.jsonl").exists(), "who is told to leave loses nothing"
    slurm_cluster.wait_until(dependent, "COMPLETED")
    assert after.exists()


@pytest.mark.slow
def test_a_run_that_loses_a_node_goes_on_with_those_that_are_left(
    slurm_cluster: Cluster, shards: Path, whole: Path, tmp_path: Path
) -> None:
    if not slurm_cluster.daemons:
        pytest.skip("the nodes are not ours to kill")
    run_dir = tmp_path / "run"
    options = ["--nodes=1-2", "--ntasks-per-node=1", "--"]
    job = slurm_cluster.submit(SLURM / "submit.sh", *options, *command(shards, run_dir, PATIENCE))
    wait_for_steps(slurm_cluster, job, run_dir, number=25)
    slurm_cluster.lose("n2")
    slurm_cluster.start_now(job)
    assert slurm_cluster.wait_until(job, "COMPLETED", "FAILED", seconds=HANG_SECONDS)["NodeList"] == "n1"
    slurm_cluster.bring_back("n2")
    assert status(run_dir)["state"] == "done", log_of(run_dir, job)
    assert_same_sequences(run_dir, whole)


def test_a_users_mistake_ends_the_job_for_good(slurm_cluster: Cluster, tmp_path: Path) -> None:
    arguments = command(tmp_path / "absent", tmp_path)
    script = ["sbatch", "--parsable", "--ntasks=2", "--ntasks-per-node=2", f"--output={tmp_path}/slurm-%j.log"]
    job = slurm_cluster.submit(*script, SLURM / "pretrain.sbatch", *arguments)
    ended = slurm_cluster.wait_until(job, "FAILED", "COMPLETED", seconds=HANG_SECONDS)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "2:0", "0"), log_of(tmp_path, job)
    assert "absent" in log_of(tmp_path, job)


# What a job becomes, by the lives of its ranks: told_trainer.py says what the words do.
LIVES = {
    "crash done": ("COMPLETED", "0:0"),
    "crash save done": ("COMPLETED", "0:0"),
    "crash crash done": ("FAILED", "1:0"),
    "stopped": ("COMPLETED", "0:0"),
}


@pytest.mark.parametrize("lives", LIVES)
def test_ranks_that_crash_start_again_in_the_job_while_they_get_on(
    lives: str, slurm_cluster: Cluster, tmp_path: Path
) -> None:
    job = submit_told(slurm_cluster, tmp_path / "run", lives)
    ended = slurm_cluster.wait_until(job, "COMPLETED", "FAILED")
    assert (ended["JobState"], ended["ExitCode"]) == LIVES[lives], log_of(tmp_path / "run", job)
    assert ended["Restarts"] == "0"


def test_a_cancelled_job_and_one_that_may_not_be_requeued_stay_away(slurm_cluster: Cluster, tmp_path: Path) -> None:
    cancelled, kept = (submit_told(slurm_cluster, tmp_path / name, "leave done") for name in ("cancelled", "kept"))
    for name in ("cancelled", "kept"):
        wait_for((tmp_path / name / "life-0").exists, 60, lambda: run("squeue"))
    run("scontrol", "update", f"JobId={kept}", "Requeue=0")
    run("scancel", cancelled)
    run("scancel", "--batch", "--signal=USR1", kept)
    assert slurm_cluster.wait_until(kept, "FAILED", "COMPLETED")["ExitCode"] == "75:0"
    slurm_cluster.wait_until(cancelled, "CANCELLED", "COMPLETED")
    assert [status(tmp_path / name)["state"] for name in ("cancelled", "kept")] == ["stopped", "stopped"]
    assert [len(list((tmp_path / name).glob("life-*"))) for name in ("cancelled", "kept")] == [1, 1]


@pytest.mark.parametrize("script", sorted(path.name for path in SLURM.glob("*.sbatch")))
def test_slurm_accepts_every_shipped_script(script: str, slurm_cluster: Cluster) -> None:
    size = ["--nodes=2", "--ntasks-per-node=2", "--gpus-per-node=2"] if script == "pretrain.sbatch" else []
    run("sbatch", "--test-only", *size, SLURM / script, "run_dir=none")


@pytest.mark.slow
def test_a_chain_is_jobs_that_wait_for_each_other_and_end_with_the_one_that_fails(
    slurm_cluster: Cluster, tmp_path: Path
) -> None:
    prep, training = ["--hold", "--"], ["--", "--nodes=2", "--gpus-per-node=8", "--"]
    corpus = [f"corpus.paths=[{tmp_path}]", "corpus.format=jsonl"]
    keys = [f"shards_dir={tmp_path}/shards", f"run_dir={tmp_path}/run", "experiment=bert_large_lamb"]
    words = run(SLURM / "chain.sh", *prep, *corpus, *training, *keys).splitlines()
    jobs = [line.split()[1].rstrip(":") for line in words]
    assert [line.split()[2] for line in words] == ["shards_128", "shards_512", "check", "phase_1", "phase_2"]
    for before, job in pairwise(jobs):
        assert f"afterok:{before}" in slurm_cluster.job(job)["Dependency"]
    phases = [run("scontrol", "show", "job", job) for job in jobs[3:]]
    assert ["stop_after=7038" in phase for phase in phases] == [True, False], phases
    run("scancel", jobs[0])
    slurm_cluster.wait_until(jobs[1], "CANCELLED")  # the others follow one by one, every quarter of a minute
    run("scancel", *jobs[2:])


def test_a_prep_array_with_a_failing_task_finishes_when_it_is_mended_and_run_again(
    slurm_cluster: Cluster, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "docs")
    letters = [f"{mark}{letter}" for mark in ("", "##") for letter in string.ascii_lowercase + string.digits]
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *letters]))
    more = [f"tokenizer.vocab_file={tmp_path}/vocab.txt", "executor.task_bytes=5000", "executor.workers=3"]
    assert main(prep_arguments(corpus, tmp_path / "local", *more)) == 0
    script = ["sbatch", "--parsable", f"--output={tmp_path}/%j.log", SLURM / "data_prep.sbatch"]

    def prepare(*, told_to_leave: bool = False) -> tuple[dict[str, str], str]:
        job = slurm_cluster.submit(*script, *prep_arguments(corpus, tmp_path / "slurm", *more))
        if told_to_leave:
            wait_for((tmp_path / f"{job}.log").exists, 60, lambda: str(slurm_cluster.job(job)))
            run("scancel", "--batch", "--signal=USR1", job)
            slurm_cluster.start_now(job)
        ended = slurm_cluster.wait_until(job, "COMPLETED", "FAILED", seconds=HANG_SECONDS)
        return ended, (tmp_path / f"{job}.log").read_text()

    whole = (corpus / "3.jsonl").read_text()
    (corpus / "3.jsonl").write_text(whole + "{torn\n")
    ended, log = prepare()
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "1:0"), log
    assert re.search(r"3\.jsonl, line 11", log), log
    (corpus / "3.jsonl").write_text(whole)
    ended, log = prepare(told_to_leave=True)
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1"), log
    assert contents(tmp_path / "slurm") == contents(tmp_path / "local")


@pytest.mark.slow
def test_a_job_out_of_time_comes_back_also_when_its_ranks_do_not_leave_in_the_grace(
    slurm_cluster: Cluster, out_of_time: dict[Path, str]
) -> None:
    for run_dir, job in out_of_time.items():
        if slurm_cluster.job(job)["Restarts"] == "0":
            slurm_cluster.start_now(job)
        ended = slurm_cluster.wait_until(job, "COMPLETED", "FAILED", "TIMEOUT", seconds=HANG_SECONDS)
        assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1"), log_of(run_dir, job)
        assert status(run_dir)["state"] == "done"
