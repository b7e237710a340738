"""A stand-in for Kubernetes: an API server that runs the pod of a job as a process here.

It knows what Snakemake asks of Kubernetes and no more: secrets, jobs and their pods. A job's
working directory is an empty folder, and the paths of its volumes must exist.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import yaml

Jobs = dict[str, dict[str, Any]]
"""Name to the job as it was posted."""


@contextmanager
def cluster(folder: Path, path: str) -> Iterator[tuple[dict[str, str], Jobs]]:
    """Serve until the context ends; gives the environment that reaches it, and what was posted.

    ``path`` is that of the image: where its ``python`` is.
    """
    jobs: Jobs = {}
    running: dict[str, subprocess.Popen[bytes]] = {}

    def start(job: dict[str, Any]) -> None:
        name = job["metadata"]["name"]
        container = job["spec"]["template"]["spec"]["containers"][0]
        workdir = folder / name
        workdir.mkdir()
        with (folder / f"{name}.log").open("wb") as log:
            running[name] = subprocess.Popen(
                [*container["command"], *container["args"]],
                cwd=workdir, env=os.environ | {"PATH": path}, stdout=log, stderr=log,
            )  # fmt: skip
        jobs[name] = job

    def pods(name: str) -> list[dict[str, Any]]:
        if name not in running:
            return []
        code = running[name].poll()
        state: dict[str, Any] = {"running": {}} if code is None else {}
        if code is not None:
            state = {"terminated": {"exitCode": code}}
        status = {"name": "snakemake", "state": state, "image": "", "imageID": "", "ready": True}
        statuses = {"containerStatuses": [status | {"restartCount": 0}]}
        return [{"metadata": {"name": name}, "status": statuses}]

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, body: Any) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.endswith("/jobs"):
                start(body)
            self._answer(body)

        def do_GET(self) -> None:
            asked = re.search(r"job-name%3D([\w-]+)", self.path)
            if asked:
                return self._answer({"items": pods(asked[1])})
            if "/log" in self.path:
                name = self.path.split("/pods/")[1].split("/")[0]
                return self._answer((folder / f"{name}.log").read_bytes())
            self._answer({"status": {}})

        def do_DELETE(self) -> None:
            self._answer({})

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    named = {"name": "here"}
    address = f"http://127.0.0.1:{server.server_port}"
    configuration = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [named | {"cluster": {"server": address}}],
        "users": [named | {"user": {}}],
        "contexts": [named | {"context": {"cluster": "here", "user": "here"}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(configuration), "utf-8")
    try:
        yield {"KUBECONFIG": str(folder / "kubeconfig")}, jobs
    finally:
        server.shutdown()
        for process in running.values():
            process.wait()
