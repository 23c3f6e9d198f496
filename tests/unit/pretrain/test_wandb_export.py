"""An export in the W&B run of its training, beside it and after it: an artifact appears there, all else stays."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pretrain.track.run_files import ensure_run_id
from tests.unit.pretrain.wandb_lives import CONFIG, finish, history, of_kind, runs, start
from tests.wandb_stand_in import WandbServer

PROGRAM = """
import logging, sys
from pathlib import Path
from pretrain.track import wandb_export, wandb_start
from pretrain.tracking_config import Artifacts, TrackingConfig, WandbMode

logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
wandb_start.INIT_TIMEOUT_SECONDS = float(sys.argv[3])
tracking = TrackingConfig(
    log_every=1, ranks_every=0, tensorboard=False, wandb=WandbMode.online, wandb_project="lambert-tests",
    wandb_name="a run", rewind=False, artifacts=Artifacts.exports, peak_tflops=None,
)
places = {"run_dir": Path(sys.argv[1]), "model_dir": Path(sys.argv[2])}
print(wandb_export.list_export(tracking, tag="step-00000002", metadata={"step": 2}, **places))
"""


def export(run_dir: Path, server: WandbServer, *, init_timeout: int = 60) -> subprocess.CompletedProcess[str]:
    """List a model of the run in W&B, in a new process."""
    model_dir = run_dir.parent / "a model"
    model_dir.mkdir(exist_ok=True)
    (model_dir / "model.safetensors").write_bytes(bytes(1000))
    (run_dir.parent / "home").mkdir(exist_ok=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(run_dir), str(model_dir), str(init_timeout)],
        env=clean | server.environment | {"HOME": str(run_dir.parent / "home")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def write_state(run_dir: Path, state: str) -> None:
    (run_dir / "status.json").write_text(json.dumps({"state": state}))


def seen_of(server: WandbServer, run_id: str) -> dict[str, Any]:
    """Return what the server's pages show of a run: history, config, how every metric is drawn, newest values."""
    config = {key: item["value"] for key, item in server.configs[run_id].items()}
    metrics = config.pop("_wandb")["m"]
    newest = {key: server.summaries[run_id][key] for key in ("step", "loss")}
    return {"losses": server.losses(run_id), "config": config, "metrics": metrics, "newest": newest}


def test_an_export_beside_a_training_and_one_after_it_add_an_artifact_each_and_change_nothing(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    write_state(run_dir, "running")
    run_id = ensure_run_id(run_dir)
    name = f"model-{run_id}"
    with WandbServer() as server:
        life = {"start_step": 0, "steps": [1, 2, 3, 4], "after": {"2": "pause"}}
        training = start(run_dir, "online", life, server.environment)
        assert training.stdout is not None
        assert training.stdout.readline() == "paused\n"
        beside = export(run_dir, server)
        assert (beside.returncode, beside.stdout) == (0, f"listed by W&B as {name}:step-00000002\n"), beside.stderr
        assert run_id not in server.exit_codes, "the training runs"
        done = finish(training, "\n")
        assert (done.returncode, done.stdout, done.stderr) == (0, "trained to the end\n", "")
        before = seen_of(server, run_id)
        assert before["losses"] == {step: 10 / step for step in (1, 2, 3, 4)}
        assert {key: before["config"][key] for key in CONFIG} == CONFIG
        assert (len(before["metrics"]), before["newest"]) == (2, {"step": 4, "loss": 2.5})
        assert server.exit_codes[run_id] == [0]
        write_state(run_dir, "failed")
        upserts = len(server.sent("UpsertBucket"))
        after = export(run_dir, server)
    assert (after.returncode, after.stdout, after.stderr) == (0, beside.stdout, "")
    assert seen_of(server, run_id) == before
    assert server.exit_codes[run_id] == [0, 1], "as status.json has it"
    told = {key for sent in server.sent("UpsertBucket")[upserts:] for key, value in sent.items() if value is not None}
    assert not told & {"host", "program", "commit", "repo", "notes", "jobType", "state"}, "they stay the training's"
    created = [sent["input"] for sent in server.sent("CreateArtifact")]
    assert [(each["artifactCollectionName"], each["artifactTypeName"]) for each in created] == [(name, "model")] * 2
    assert {each["runName"] for each in created} == {run_id}
    for manifest in server.manifests:
        (entry,) = manifest["contents"].values()
        assert (entry["ref"], entry["size"]) == ((tmp_path / "a model" / "model.safetensors").as_uri(), 1000)
    assert len(server.manifests) == 2


def test_a_server_that_does_not_answer_costs_a_warning_and_the_artifact_is_kept_for_sync(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    with WandbServer() as server:
        server.hang()
        done = export(run_dir, server, init_timeout=5)
    name = f"model-{ensure_run_id(run_dir)}:step-00000002"
    told = f"listed by W&B as {name}; `wandb sync` sends it from {run_dir / 'wandb'}\n"
    assert (done.returncode, done.stdout) == (0, told), done.stderr
    assert done.stderr.startswith("WARNING W&B cannot be reached")
    assert len(done.stderr.splitlines()) == 1
    records = runs(run_dir)[-1]
    assert [artifact.type for artifact in of_kind(records, "artifact")] == ["model"]
    assert history(records) == []
