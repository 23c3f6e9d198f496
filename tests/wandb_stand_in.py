"""A stand-in for W&B's server, as far as its client needs one: it takes runs, histories, alerts and artifacts."""

import gzip
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

KEY = "0123456789" * 4
ENTITY, PROJECT = "somebody", "lambert-tests"


class WandbServer:
    """Listens on a port of this machine. What was sent to it is in its attributes.

    `can_rewind` says whether it knows that mutation. After `hang()` it accepts connections and answers none.
    """

    def __init__(self, *, can_rewind: bool = True) -> None:
        self.can_rewind = can_rewind
        self.operations: list[tuple[str, dict[str, Any]]] = []  # GraphQL: name and variables
        self.histories: dict[str, list[dict[str, Any]]] = {}  # rows by run
        self.configs: dict[str, dict[str, Any]] = {}  # by run, as all of these
        self.summaries: dict[str, dict[str, Any]] = {}
        self.exit_codes: dict[str, list[int]] = {}  # one for each time that a run was marked as finished
        self.manifests: list[dict[str, Any]] = []  # of artifacts
        self._hangs = threading.Event()
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to find it."""
        port = self._server.server_address[1]
        return {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": KEY, "WANDB_ENTITY": ENTITY}

    def hang(self) -> None:
        """Answer nothing from now on."""
        self._hangs.set()

    def losses(self, run: str) -> dict[int, float]:
        """Return a run's history as losses by step, after a look whether steps ascend and none comes twice."""
        rows = self.histories[run]
        steps = [row["_step"] for row in rows]
        assert steps == sorted(set(steps)), steps
        return {row["_step"]: row["loss"] for row in rows}

    def sent(self, operation: str) -> list[dict[str, Any]]:
        """Return the variables of every such GraphQL operation."""
        return [variables for name, variables in self.operations if name == operation]

    def __enter__(self) -> "WandbServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the reply to a GraphQL operation."""
        self.operations.append((name, variables))
        answers: dict[str, Callable[[], Any]] = {
            "Viewer": lambda: {"viewer": {"id": "1", "entity": ENTITY, "username": ENTITY, "flags": "{}"}},
            "ServerFeaturesQuery": lambda: {"serverInfo": {"features": []}},
            "RunResumeStatus": lambda: {"model": self._resume_status(variables["name"])},
            "UpsertBucket": lambda: {"upsertBucket": {"bucket": self._upsert(variables), "inserted": True}},
            "NotifyScriptableRunAlert": lambda: {"notifyScriptableRunAlert": {"success": True}},
            "CreateRunFiles": lambda: {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": []}},
            "CreateArtifact": lambda: {"createArtifact": {"artifact": {"id": "1", "state": "PENDING"}}},
            "CreateArtifactManifest": lambda: {"createArtifactManifest": {"artifactManifest": self._manifest()}},
            "CommitArtifact": lambda: {"commitArtifact": {"artifact": {"id": "1", "digest": "0"}}},
            "ArtifactByID": lambda: {"artifact": self._artifact()},
        }
        if name == "RewindRun" and self.can_rewind:
            return {"data": {"rewindRun": {"rewoundRun": self._rewind(variables)}}}
        if name not in answers:
            return {"data": None, "errors": [{"message": f"{name} is not known here"}]}
        return {"data": answers[name]()}

    def take(self, run: str, sent: dict[str, Any]) -> None:
        """Put what a file stream brings into the history of its run, its summary and its exit codes."""
        files = sent.get("files") or {}
        chunk = files.get("wandb-history.jsonl", {"offset": 0, "content": []})
        rows = self.histories.setdefault(run, [])
        assert chunk["offset"] <= len(rows), (chunk["offset"], len(rows))
        rows[chunk["offset"] :] = [json.loads(line) for line in chunk["content"]] or rows[chunk["offset"] :]
        for line in files.get("wandb-summary.json", {}).get("content", []):
            self.summaries[run] = json.loads(line)
        if sent.get("complete"):
            self.exit_codes.setdefault(run, []).append(sent["exitcode"])

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = variables["name"]
        if variables.get("config"):
            self.configs[run] = json.loads(variables["config"])
        return self._bucket(run)

    def _manifest(self) -> dict[str, Any]:
        upload = f"{self.environment['WANDB_BASE_URL']}/manifest"
        file = {"id": "1", "name": "m", "displayName": "m", "uploadUrl": upload, "uploadHeaders": []}
        return {"id": "1", "file": file}

    def _artifact(self) -> dict[str, Any]:
        """Return what the client wants to know of the artifact that was created last."""
        created = self.sent("CreateArtifact")[-1]["input"]
        counts = {"versionIndex": 0, "ttlDurationSeconds": -2, "size": 0, "fileCount": 0}
        rest = dict.fromkeys(("description", "metadata", "historyStep", "commitHash", "updatedAt", "aliases"))
        return (
            rest
            | counts
            | {
                "id": "1",
                "artifactSequence": {"name": created["artifactCollectionName"], "project": None},
                "artifactType": {"name": created["artifactTypeName"]},
                "ttlIsInherited": True,
                "tags": [],
                "state": "COMMITTED",
                "digest": created["digest"],
                "createdAt": "2026-03-01T12:00:00",
            }
        )

    def _bucket(self, run: str) -> dict[str, Any]:
        project = {"id": "1", "name": PROJECT, "entity": {"id": "1", "name": ENTITY}}
        lines = len(self.histories.get(run, []))
        bucket = {"id": run, "name": run, "displayName": run, "config": "{}"}
        return bucket | {"project": project, "historyLineCount": lines}

    def _resume_status(self, run: str) -> dict[str, Any]:
        status: dict[str, Any] = {"id": "1", "name": PROJECT, "entity": {"id": "1", "name": ENTITY}, "bucket": None}
        rows = self.histories.get(run)
        if rows is not None:
            status["bucket"] = self._bucket(run) | {
                "summaryMetrics": json.dumps(self.summaries.get(run, {})),
                "logLineCount": 0,
                "eventsLineCount": 0,
                "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]),
                "eventsTail": "[]",
                "tags": [],
                "wandbConfig": '{"t": {}}',  # without it the client takes the run for one that has not begun
                "config": json.dumps(self.configs.get(run, {})),
            }
        return status

    def _rewind(self, variables: dict[str, Any]) -> dict[str, Any]:
        run, last = variables["runName"], variables["metricValue"]
        self.histories[run] = [row for row in self.histories.get(run, []) if row["_step"] <= last]
        return self._bucket(run)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                if server._hangs.is_set():
                    server._released.wait()
                    return
                if data.startswith(b"\x1f\x8b"):
                    data = gzip.decompress(data)
                if self.path.startswith("/graphql"):
                    request = json.loads(data)
                    self._reply(server.answer(operation_name(request), request.get("variables") or {}))
                elif self.path.endswith("/file_stream"):
                    server.take(self.path.split("/")[-2], json.loads(data))
                    self._reply({"exitcode": None, "limits": {}})
                else:  # wandb's telemetry on itself
                    self._reply({})

            def do_PUT(self) -> None:
                server.manifests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self._reply({})

            def _reply(self, content: dict[str, Any]) -> None:
                data = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def operation_name(request: dict[str, Any]) -> str:
    """Return the name of a GraphQL request, which stands in its text if nowhere else."""
    return request.get("operationName") or request["query"].split("{")[0].split()[1].partition("(")[0]
