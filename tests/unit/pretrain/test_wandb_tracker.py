"""Real W&B runs of a training: their history, config, alerts and artifacts, and what servers do to them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pretrain.track.metrics_file import MetricsLog
from pretrain.track.run_files import ensure_run_id
from tests.unit.pretrain.wandb_lives import CONFIG, finish, history, of_kind, runs, start, train
from tests.wandb_stand_in import WandbServer


def test_an_offline_run_holds_history_config_alerts_and_checkpoints_without_their_bytes(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    tag = run_dir / "checkpoints" / "step-00000020"
    tag.mkdir(parents=True)
    (tag / "rank-00000.safetensors").write_bytes(bytes(10**6))
    after = {"10": "alert", "20": "checkpoint", "30": "checkpoint"}
    done = train(run_dir, "offline", start_step=0, steps=[10, 20, 30], after=after, artifacts="checkpoints")
    assert (done.returncode, done.stdout) == (0, "trained to the end\n")
    assert done.stderr.startswith("WARNING W&B does not list step-00000030 as an artifact: "), "it is not there"
    assert len(done.stderr.splitlines()) == 1
    [records] = runs(run_dir)
    rows = history(records)
    assert [(row["_step"], row["step"], row["loss"]) for row in rows] == [(s, s, 10 / s) for s in (10, 20, 30)]
    assert all(row["nsp_loss"] != row["nsp_loss"] for row in rows)
    assert all("mfu" not in row for row in rows)
    run = of_kind(records, "run")[0]
    assert (run.run_id, run.project, run.display_name) == (ensure_run_id(run_dir), "lambert-tests", "a run")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert {key: config[key] for key in CONFIG} == CONFIG
    assert any(metric.glob_name == "*" and metric.step_metric == "step" for metric in of_kind(records, "metric"))
    (alert,) = of_kind(records, "alert")
    assert (alert.title, alert.text, alert.level) == ("stalled", "step 3 has not finished", "WARN")
    (artifact,) = of_kind(records, "artifact")
    assert (artifact.name, artifact.type) == (f"checkpoints-{run.run_id}", "checkpoint")
    assert sorted(artifact.aliases) == ["latest", "step-00000020"]
    (entry,) = artifact.manifest.contents
    assert (entry.path, entry.ref) == ("rank-00000.safetensors", f"{tag.as_uri()}/rank-00000.safetensors")
    assert sum(path.stat().st_size for path in run_dir.glob("wandb/**/*") if path.is_file()) < 10**6


def test_a_killed_run_that_goes_on_from_an_older_step_is_one_history_to_wandb_sync(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    died = train(run_dir, "offline", start_step=0, steps=[10, 20, 30, 40], after={"40": "kill -9"})
    assert died.returncode == -signal.SIGKILL
    changed = CONFIG | {"seed": 8}
    done = train(run_dir, "offline", start_step=20, steps=[30, 40, 50, 60], loss=20, config=changed)
    assert (done.returncode, done.stderr) == (0, "")
    with WandbServer() as server:
        synced = subprocess.run(
            [sys.executable, "-m", "wandb", "sync", *sorted(run_dir.glob("wandb/offline-run-*"))],
            cwd=tmp_path,
            env=os.environ | server.environment | {"HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert synced.returncode == 0, synced.stdout + synced.stderr
    assert server.losses(ensure_run_id(run_dir)) == {10: 1, 20: 0.5, 30: 1 / 3, 40: 0.25, 50: 0.4, 60: 1 / 3}


def test_rewinding_replaces_steps_that_run_again_and_where_it_cannot_no_step_comes_twice(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    tag = run_dir / "checkpoints" / "step-00000020"
    tag.mkdir(parents=True)
    (tag / "rank-00000.safetensors").write_bytes(bytes(1000))
    with WandbServer() as server:
        life = {"start_step": 0, "steps": [10, 20, 30], "after": {"10": "alert", "20": "checkpoint"}}
        first = train(run_dir, "online", **life, artifacts="all", environment=server.environment)
        assert (first.returncode, first.stderr) == (0, "")
        run_id = ensure_run_id(run_dir)
        (created,) = server.sent("CreateArtifact")
        assert created["input"]["artifactCollectionName"] == f"checkpoints-{run_id}"
        assert [*server.manifests[0]["contents"]] == ["rank-00000.safetensors"]
        assert server.losses(run_id) == {10: 1, 20: 0.5, 30: 1 / 3}
        (alert,) = server.sent("NotifyScriptableRunAlert")
        assert (alert["title"], alert["severity"]) == ("stalled", "WARN")
        life = {"start_step": 25, "steps": [30, 40], "loss": 20, "rewind": True}
        done = train(run_dir, "online", **life, environment=server.environment)
        assert (done.returncode, done.stderr) == (0, "")
        (rewind,) = server.sent("RewindRun")
        assert (rewind["runName"], rewind["metricName"], rewind["metricValue"]) == (run_id, "_step", 20)
        assert server.losses(run_id) == {10: 1, 20: 0.5, 30: 2 / 3, 40: 0.5}
        server.can_rewind = False
        life = {"start_step": 30, "steps": [40, 50], "loss": 30, "rewind": True}
        done = train(run_dir, "online", **life, environment=server.environment)
    assert done.returncode == 0
    assert done.stderr.startswith("WARNING tracking.rewind=true, but W&B cannot rewind (")
    assert len(done.stderr.splitlines()) == 1
    assert server.losses(run_id) == {10: 1, 20: 0.5, 30: 2 / 3, 40: 0.5, 50: 0.6}


def test_online_without_a_key_is_refused_by_name(tmp_path: Path) -> None:
    done = train(tmp_path / "run", "online", start_step=0, steps=[1])
    assert done.returncode == 1
    assert done.stderr.startswith("ValueError: tracking.wandb=online is not possible: no API key was found")
    assert "WANDB_API_KEY" in done.stderr
    assert "tracking.wandb=offline" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_online_with_a_malformed_key_is_refused_by_name(tmp_path: Path) -> None:
    done = train(tmp_path / "run", "online", start_step=0, steps=[1], environment={"WANDB_API_KEY": "short"})
    assert done.returncode == 1
    assert done.stderr.startswith("ValueError: tracking.wandb=online is not possible: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("how", ["refuses", "hangs"])
def test_an_unreachable_server_makes_the_run_offline_with_one_warning(tmp_path: Path, how: str) -> None:
    run_dir = tmp_path / "run"
    with WandbServer() as server:
        server.hang()
        environment = server.environment | ({"WANDB_BASE_URL": "http://127.0.0.1:9"} if how == "refuses" else {})
        done = train(run_dir, "online", start_step=0, steps=[1, 2], patience=2, environment=environment)
    assert (done.returncode, done.stdout) == (0, "trained to the end\n"), done.stderr
    assert done.stderr.startswith("WARNING W&B cannot be reached")
    assert "wandb sync" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [row["_step"] for row in history(runs(run_dir)[-1])] == [1, 2]


def test_a_server_that_hangs_under_way_holds_up_no_step(tmp_path: Path) -> None:
    """Three hundred lines, an alert and an artifact, of which it takes none; a hang ends in TimeoutExpired."""
    run_dir = tmp_path / "run"
    (run_dir / "checkpoints" / "step-00000003").mkdir(parents=True)
    life = {
        "start_step": 0,
        "steps": [*range(1, 301)],
        "after": {"2": "pause", "3": "checkpoint", "4": "alert"},
        "artifacts": "checkpoints",
        "patience": 2,
    }
    with WandbServer() as server:
        process = start(run_dir, "online", life, server.environment)
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "paused\n"
        server.hang()
        process.stdin.write("\n")
        process.stdin.flush()
        done = finish(process)
    assert (done.returncode, done.stdout) == (0, "trained to the end\n"), done.stderr
    assert [row["_step"] for row in history(runs(run_dir)[-1])] == [*range(1, 301)], "all are kept for wandb sync"


@pytest.mark.parametrize("trouble", ["the service dies", "the service freezes"])
def test_a_wandb_service_that_fails_costs_one_warning_and_no_step(tmp_path: Path, trouble: str) -> None:
    run_dir = tmp_path / "run"
    done = train(run_dir, "offline", start_step=0, steps=[1, 2, 3, 4], after={"2": trouble}, patience=2)
    assert (done.returncode, done.stdout) == (0, "trained to the end\n"), done.stderr
    assert done.stderr.startswith("WARNING W&B stopped working at step")
    assert len(done.stderr.splitlines()) == 1
    with MetricsLog(run_dir) as log:
        assert log.last_step == 4
