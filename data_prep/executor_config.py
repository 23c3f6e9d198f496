"""The config of the executors that reach beyond this machine: `executor.slurm` and `executor.ray`."""

from dataclasses import dataclass

from conf.checks import require


@dataclass(kw_only=True, slots=True)
class SlurmConfig:
    """What one task asks of SLURM; null leaves it to the cluster's own default."""

    partition: str | None
    time: str | None  # "hours:minutes:seconds" or "days-hours"
    cpus_per_task: int
    mem_per_cpu_gb: int | None
    max_array_size: int  # tasks per job array, at most: the cluster's MaxArraySize; more tasks are several arrays
    tasks_per_job: int  # tasks that one element of the array runs, one after the other
    setup: str | None  # shell lines before each task, such as "module load gcc"
    sbatch_args: dict[str, str] | None  # any other options of sbatch, without their dashes

    def __post_init__(self) -> None:
        time = self.time  # a bare number is minutes to SLURM, and YAML reads 12:00:00 as one
        is_time = time is None or ":" in time or "-" in time
        require(is_time, "executor.slurm.time", time, 'a quoted "hours:minutes:seconds" or "days-hours", or null')
        require(self.cpus_per_task >= 1, "executor.slurm.cpus_per_task", self.cpus_per_task, "at least 1")
        memory = self.mem_per_cpu_gb
        require(memory is None or memory >= 1, "executor.slurm.mem_per_cpu_gb", memory, "at least 1, or null")
        require(self.max_array_size >= 1, "executor.slurm.max_array_size", self.max_array_size, "at least 1")
        require(self.tasks_per_job >= 1, "executor.slurm.tasks_per_job", self.tasks_per_job, "at least 1")


@dataclass(kw_only=True, slots=True)
class RayConfig:
    """Which Ray cluster runs the tasks, and what each task reserves there."""

    address: str | None  # of a running cluster, "auto" for the one of this node; null starts one on this machine
    cpus_per_task: int
    mem_gb_per_task: float | None  # null reserves none

    def __post_init__(self) -> None:
        require(self.cpus_per_task >= 1, "executor.ray.cpus_per_task", self.cpus_per_task, "at least 1")
        memory = self.mem_gb_per_task
        require(memory is None or memory > 0, "executor.ray.mem_gb_per_task", memory, "a positive number, or null")
