"""`make quickstart`: Lambert's main job on two local ranks, by the commands that a user would type.

Corpus, shards, training, an interruption half way, the same command again, export, predictions. Everything lies under
runs/quickstart/; a second call finds what is done and redoes nothing.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from conf.compose import compose
from launch.quickstart_corpus import write_corpus
from launch.quickstart_predictions import show_predictions
from pretrain.checkpoint.save import list_tags
from pretrain.config import PretrainConfig
from pretrain.phases import total_steps
from pretrain.track.metrics_file import METRICS_FILE, read_metrics
from pretrain.track.plots import PLOT_FILE

ROOT = Path("runs/quickstart")
CORPUS, SHARDS, RUN, EXPORT = ROOT / "corpus", ROOT / "shards", ROOT / "run", ROOT / "model"
BIN = Path(sys.executable).parent

PREPARE = [
    "python",
    "-m",
    "data_prep",
    f"output_dir={SHARDS}",
    f"corpus.paths=[{CORPUS}]",
    "corpus.format=jsonl",
    "tokenizer.vocab_size=8000",
    "dupe_factor=1",
    "held_out_fraction=0.05",
    "executor.task_bytes=2000000",
    "executor.workers=2",
]
SETTINGS = [f"shards_dir={SHARDS}", f"run_dir={RUN}", "experiment=quickstart"]
TRAIN = ["torchrun", "--nproc-per-node", "2", "-m", "pretrain", *SETTINGS]


def main() -> int:
    """Run the quick start; return 0, or the exit code of the first command that failed."""
    started = time.monotonic()
    try:
        step("1. A corpus: the service documentation inside the botocore package")
        prepare_corpus()
        step("2. Shards: vocabulary, sentence pairs, masks, a held-out split")
        run(PREPARE)
        run(["python", "-m", "data_prep.show", str(SHARDS), "--instances", "1"])
        step("3. Training on two ranks: ZeRO-1, bf16, LAMB. It is interrupted half way ...")
        train_and_interrupt()
        step("4. ... and goes on by the same command")
        run(TRAIN)
        step("5. Export to Hugging Face")
        run_unless(EXPORT, ["python", "-m", "pretrain.export", f"run_dir={RUN}", f"output_dir={EXPORT}"])
        run_unless(RUN / PLOT_FILE, ["python", "-m", "pretrain.track.plots", str(RUN)])
        step("6. What it has learned: held-out sentences with one word hidden")
        show_predictions(EXPORT, SHARDS, count=5)
        step("Done")
        summarise(time.monotonic() - started)
    except subprocess.CalledProcessError as error:
        print(f"\nthe command above failed with exit code {error.returncode}", file=sys.stderr)
        return int(error.returncode) or 1
    return 0


def step(title: str) -> None:
    """Print a heading."""
    print(f"\n=== {title}", flush=True)


def prepare_corpus() -> None:
    """Write the corpus unless it is there."""
    if CORPUS.is_dir():
        print(f"already there: {CORPUS}")
    else:
        print(f"{write_corpus(CORPUS):,} documents in {CORPUS}")


def run(command: list[str]) -> None:
    """Print a command as a user would type it, and run it. Raises CalledProcessError when it fails."""
    print(f"\n$ {shlex.join(command)}", flush=True)
    subprocess.run([str(BIN / command[0]), *command[1:]], check=True, env=environment())


def run_unless(result: Path, command: list[str]) -> None:
    """Run a command unless its result is there."""
    if result.exists():
        print(f"already there: {result}")
    else:
        run(command)


def environment() -> dict[str, str]:
    """Return the environment of the commands: one thread per rank, no word from libraries about it."""
    return os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def train_and_interrupt() -> None:
    """Start the training and interrupt it half way as a scheduler would, unless there is a checkpoint already."""
    tags = list_tags(RUN / "checkpoints")
    if tags:
        print(f"already interrupted: {RUN} stands at {tags[-1]}")
        return
    half = total_steps(compose("pretrain", PretrainConfig, SETTINGS).phases) // 2
    print(f"\n$ {shlex.join(TRAIN)}", flush=True)
    with subprocess.Popen([str(BIN / TRAIN[0]), *TRAIN[1:]], env=environment()) as torchrun:
        while torchrun.poll() is None and last_step() < half:
            time.sleep(0.5)
        if torchrun.poll() is None:
            rank = psutil.Process(torchrun.pid).children()[0]
            print(f"\nkill -USR1 {rank.pid}    (one rank is told; all of them save and leave)", flush=True)
            os.kill(rank.pid, signal.SIGUSR1)
    if torchrun.returncode:
        raise subprocess.CalledProcessError(torchrun.returncode, TRAIN)


def last_step() -> int:
    """Return the last step that the run has logged, 0 before the first."""
    file = RUN / METRICS_FILE
    records = read_metrics(file) if file.is_file() else []
    return int(records[-1]["step"] or 0) if records else 0


def summarise(seconds: float) -> None:
    """Print what was reached and where everything lies."""
    last = [record for record in read_metrics(RUN / METRICS_FILE) if "held_out_mlm_loss" in record][-1]
    loss, entropy = float(last["held_out_mlm_loss"] or 0), float(last["held_out_unigram_entropy"] or 0)
    print(f"held-out masked-token loss  {loss:.3f} nats after {last['step']} steps")
    print(f"unigram entropy             {entropy:.3f} nats (knowing only how frequent each token is)")
    print(f"learned from context        {entropy - loss:.3f} nats")
    print(f"time                        {seconds:.0f} s\n")
    for what, path in (
        ("shards", SHARDS),
        ("run (metrics, checkpoints)", RUN),
        ("loss curve", RUN / PLOT_FILE),
        ("TensorBoard", f"tensorboard --logdir {RUN / 'tensorboard'}"),
        ("Hugging Face model", EXPORT),
    ):
        print(f"{what:28}{path}")


if __name__ == "__main__":
    sys.exit(main())
