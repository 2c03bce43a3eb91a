"""`push=`: what a hub, here a server on the loopback address, is sent, and one line where that fails."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import trained_cell
from commandline import PATIENCE

from benchmark.inference import restored

NAME, TOKEN = "team/encoder", "hf_secret"


class Hub(ThreadingHTTPServer):
    """As much of a hub as an upload asks for: files of the repositories that were made, by their path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.commits: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.answer(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            request = json.loads(body)
            self.answer(200, {"url": f"{self.server.url}/{request.get('organization')}/{request['name']}"})
        elif self.path.endswith("/preupload/main"):
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self.answer(200, {"files": [file | {"shouldIgnore": False} for file in files]})
        elif self.path.endswith("/commit/main"):
            header, *operations = (json.loads(line)["value"] for line in body.splitlines())
            self.server.commits.append(header["summary"])
            self.server.files |= {one["path"]: base64.b64decode(one["content"]) for one in operations}
            self.answer(200, {"commitUrl": f"{self.server.url}/{NAME}/commit/1", "commitOid": "1"})
        else:  # whether the card's header is right
            self.answer(200, {"errors": [], "warnings": []})

    def do_HEAD(self) -> None:
        here = self.path.rpartition("/")[2] in self.server.files
        self.send_response(200 if here else 404)
        for name, value in (("X-Repo-Commit", "1"), ("ETag", '"1"'), ("Content-Length", "0")):
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self) -> None:
        self.answer(200, {"id": NAME, "sha": "1", "siblings": []})

    def answer(self, code: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def online(hub: Hub, environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    without_proxies = {name: value for name, value in environment.items() if "proxy" not in name.lower()}
    own = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    return without_proxies | own | {"HF_HUB_OFFLINE": "0"}


# The client reads its variables when it is imported, but for the token: first one that the hub refuses, then its own.
TWICE = f"""
import os, sys
from benchmark.__main__ import main
os.environ["HF_TOKEN"] = "hf_other"
assert main([*sys.argv[1:], "out=refused"]) == 2
os.environ["HF_TOKEN"] = {TOKEN!r}
sys.exit(main([*sys.argv[1:], "out=encoder"]))
"""


@pytest.mark.parametrize(
    ("size", "names"),
    [
        (96, {"README.md", "encoder.json", "config.json", "model.safetensors"}),
        pytest.param(32, {"README.md", "encoder.json", "encoder.pt2"}, marks=pytest.mark.slow),
    ],
    ids=["timm", "changed stem"],
)
def test_what_is_pushed_is_what_was_exported_and_a_hub_that_refuses_is_one_line(
    size: int, names: set[str], hub: Hub, online: dict[str, str], tmp_path: Path
) -> None:
    folder = trained_cell.write(tmp_path / "runs", ("methods=simclr", "backbone=test_resnet", f"view_size={size}"))
    call = [sys.executable, "-c", TWICE, "export", str(folder), f"push={NAME}"]
    result = subprocess.run(call, cwd=tmp_path, env=online, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    # A changed stem is said too, of each export.
    (line,) = [text for text in result.stderr.splitlines() if not text.startswith("no config.json for timm, ")]
    assert line.startswith(f"error: push={NAME}: ")
    assert "401" in line
    assert line.endswith(f"refused is whole, and `hf upload {NAME} refused` sends it")
    assert {path.name for path in (tmp_path / "refused").iterdir()} == names
    assert result.stdout.splitlines()[-1] == f"{hub.url}/{NAME}"
    assert hub.files.keys() == names
    for name in names - {"config.json", "model.safetensors"}:
        assert hub.files[name] == (tmp_path / "encoder" / name).read_bytes(), "ours, not timm's card"
    assert all(folder.name in commit for commit in hub.commits)
    if "config.json" in names:
        clone = tmp_path / "clone"
        clone.mkdir()
        for name, content in hub.files.items():
            (clone / name).write_bytes(content)
        cell = restored.load(folder, restored.CPU, print)
        images = torch.rand(2, 3, size, size)
        network = timm.create_model(f"local-dir:{clone}", pretrained=True).eval()
        torch.testing.assert_close(network(images), cell.encoder(images), rtol=1e-5, atol=1e-5)
        assert network.pretrained_cfg["mean"] == pytest.approx(trained_cell.STATISTICS["pixel_mean"])
