import sys
from pathlib import Path

import pytest

from conf.compose import compose
from data_prep.config import DataPrepConfig
from data_prep.executors.executor import check_executor, run_stage
from data_prep.executors.stage import TaskError
from tests.unit.data_prep.example_shards import data_prep_config
from tests.unit.data_prep.example_steps import WriteRank, outputs

ROOT = Path(__file__).resolve().parents[4]
KINDS = {
    "local": ["executor.kind=local", "executor.workers=1"],
    "local_2": ["executor.kind=local", "executor.workers=2"],
    "slurm": ["executor.kind=slurm", "executor.workers=2"],
    "ray": ["executor.kind=ray", "executor.workers=2"],
}


@pytest.fixture(params=KINDS)
def executor(request: pytest.FixtureRequest) -> list[str]:
    """The overrides that choose an executor, each of them in turn."""
    if request.param == "slurm":
        request.getfixturevalue("slurm")
    if request.param == "ray":
        return [*KINDS["ray"], f"executor.ray.address={request.getfixturevalue('ray_cluster')}"]
    return KINDS[request.param]


def run(folder: Path, step: WriteRank, overrides: list[str], tasks: int = 4) -> None:
    config = data_prep_config(*overrides).executor
    run_stage("test", [step], stage_dir=folder / "stage", config=config, task_sizes=[1] * tasks, unit=" tasks")


class TwoPartError(Exception):
    """Cannot be unpickled: its constructor wants two arguments."""

    def __init__(self, place: str, words: str) -> None:
        super().__init__(f"{place}: {words}")


class RaiseTwoPartError(WriteRank):
    """Fails with an error that does not survive the way from one process to another."""

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        raise TwoPartError("file a", "bad")


def test_programs_of_the_tests_start_in_the_repository() -> None:
    assert (ROOT / "pyproject.toml").is_file()


def test_a_failed_task_is_one_message_and_finished_tasks_are_kept(
    tmp_path: Path, executor: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    step = WriteRank(tmp_path, failing=(2,))
    with pytest.raises(TaskError, match=r"^file a, line 3: bad; mend it\nFinished tasks are kept.*task_00002\.log$"):
        run(tmp_path, step, executor)
    assert "Traceback" in (tmp_path / "stage" / "logs" / "task_00002.log").read_text()
    (tmp_path / "mend").touch()
    run(tmp_path, step, executor)
    assert outputs(tmp_path, 4) == ["done\n"] * 4
    output = capfd.readouterr()
    first, *_ = (line for line in output.out.splitlines() if "of 4 tasks are done" in line)
    num_done = int(first.split()[1])
    assert num_done >= 2
    assert f"test: {num_done} of 4 tasks are already done" in output.out
    assert output.err == ""


def test_a_bug_in_a_task_names_its_kind(tmp_path: Path, executor: list[str]) -> None:
    with pytest.raises(TaskError, match=r"^KeyError: 'oops'"):
        run(tmp_path, WriteRank(tmp_path, failing=(0,), failure="bug"), executor)


def test_an_error_that_cannot_be_unpickled_is_told_like_any_other(tmp_path: Path, executor: list[str]) -> None:
    words = r"^TwoPartError: file a: bad\n(.+\n)?Finished tasks are kept.*Log: .*task_0000\d\.log$"
    with pytest.raises(TaskError, match=words):
        run(tmp_path, RaiseTwoPartError(tmp_path), executor)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("executor", ["local_2", "slurm", "ray"], indirect=True)
def test_a_killed_worker_ends_the_run_instead_of_hanging_it(tmp_path: Path, executor: list[str]) -> None:
    step = WriteRank(tmp_path, failing=(1,), failure="killed")
    with pytest.raises(
        TaskError, match=r"(for want of memory|ended tasks without a result)(.|\n)*Finished tasks are kept"
    ):
        run(tmp_path, step, executor)
    (tmp_path / "mend").touch()
    run(tmp_path, step, executor)
    # The kill may catch a neighbour between its output and its marker: that task runs again, to the same end.
    assert [set(output.splitlines()) for output in outputs(tmp_path, 4)] == [{"done"}] * 4
    assert outputs(tmp_path, 4)[1] == "done\n"


def test_a_task_whose_output_is_gone_runs_again_though_its_marker_is_there(tmp_path: Path, executor: list[str]) -> None:
    step = WriteRank(tmp_path)
    run(tmp_path, step, executor)
    (tmp_path / "1.out").unlink()
    run(tmp_path, step, executor)
    assert outputs(tmp_path, 4) == ["done\n"] * 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("executor.kind=slurm", "executor.kind='slurm' is not valid: sbatch, squeue and scancel must be"),
        ("executor.kind=ray", r"executor.kind='ray' is not valid: .*pip install 'lambert-pretraining\[ray\]'"),
    ],
)
def test_an_executor_that_this_machine_lacks_is_refused(
    override: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(ROOT)])
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ValueError, match=message):
        check_executor(data_prep_config(override).executor)


@pytest.mark.parametrize(
    "override", ["executor.slurm.time=90", "executor.slurm.max_array_size=0", "executor.ray.mem_gb_per_task=0"]
)
def test_an_executor_option_out_of_range_is_refused_by_its_key(override: str) -> None:
    with pytest.raises(ValueError, match=override.partition("=")[0]):
        data_prep_config(override)


def test_any_option_of_sbatch_can_be_given() -> None:
    fixed = ["output_dir=a", "corpus.paths=[b]", "corpus.format=text", "executor.slurm.time=1-12"]
    config = compose("data_prep", DataPrepConfig, [*fixed, "executor.slurm.sbatch_args={account: nlp, nice: 5}"])
    assert config.executor.slurm.sbatch_args == {"account": "nlp", "nice": "5"}
