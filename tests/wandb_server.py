"""A loopback server that answers what the W&B client asks of one, as far as it was seen to ask, and keeps it all."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789" * 4  # as long as a real one, which the client insists on


class Server(ThreadingHTTPServer):
    """`calls` holds (operation, variables) of GraphQL, `streams` what was posted of runs' histories and summaries."""

    daemon_threads = True

    def __init__(self, projects: tuple[str, ...] = ("proj",)) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.projects = projects
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.streams: list[tuple[str, dict[str, Any]]] = []
        self.open = threading.Event()  # while it is not set, nothing is answered
        self.open.set()

    def __enter__(self) -> Server:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *how: object) -> None:
        self.open.set()
        self.shutdown()
        self.server_close()

    def environment(self) -> dict[str, str]:
        return {"WANDB_BASE_URL": f"http://127.0.0.1:{self.server_port}", "WANDB_API_KEY": KEY, "WANDB_MODE": "online"}

    def lines(self) -> list[dict[str, Any]]:
        """Of all histories, in the order in which they came."""
        lists = [each.get("files", {}).get("wandb-history.jsonl", {}).get("content", []) for _, each in self.streams]
        return [json.loads(line) for content in lists for line in content]

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL answer."""
        name = variables.get("projectName") or variables.get("project") or variables.get("name")
        if operation == "Viewer":
            teams = {"edges": [{"node": {"id": "e", "name": "me"}}]}
            return {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": teams}}
        if operation == "UpsertBucket":
            project = {"id": "p", "name": "proj", "entity": {"id": "e", "name": "me"}}
            bucket = {
                "id": "b",
                "name": variables.get("name"),
                "displayName": "n",
                "project": project,
                "historyLineCount": 0,
            }
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if operation == "RunResumeStatus":
            posted = [each.get("files", {}) for run, each in self.streams if run == variables["name"]]
            summaries = [text for files in posted for text in files.get("wandb-summary.json", {}).get("content", [])]
            bucket = {"id": "b", "name": variables["name"], "displayName": "n", "config": "{}", "tags": []}
            bucket |= {"summaryMetrics": (summaries or ["{}"])[-1], "historyTail": "[]"}
            bucket |= {
                "historyLineCount": len(self.lines()),
                "eventsLineCount": 0,
                "logLineCount": 0,
                "eventsTail": "[]",
                "wandbConfig": '{"t": 1}',
            }
            return {"model": {"bucket": bucket if posted else None, "id": "p", "internalId": "cDox", "name": "proj"}}
        if operation == "CreateRunFiles":
            url = self.environment()["WANDB_BASE_URL"]
            files = [{"name": name, "uploadUrl": f"{url}/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if operation == "ProjectInternalId":
            return {"project": {"id": "p", "internalId": "cDox"} if name in self.projects else None}
        if operation == "GetProjects":
            edges = [{"cursor": "c", "node": self.project(name)} for name in self.projects]
            return {"models": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}
        if operation == "upsertView":
            view = {
                "id": "Vmlldzox",
                "name": variables["name"],
                "displayName": variables["displayName"],
                "type": "runs",
            }
            view |= {
                "description": variables["description"],
                "spec": variables["spec"],
                "createdAt": None,
                "updatedAt": None,
            }
            view |= {"project": {"id": "p", "name": "proj", "entityName": "me"}}
            return {"upsertView": {"view": view, "inserted": True}}
        return {}

    @staticmethod
    def project(name: str) -> dict[str, Any]:
        return {
            "id": "p",
            "name": name,
            "entityName": "me",
            "createdAt": "2025-01-01T00:00:00Z",
            "isBenchmark": False,
            "user": None,
        }


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.open.wait()
        answer: dict[str, Any] = {}
        if self.path == "/graphql":
            request = json.loads(body)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
            name, variables = operation[1] if operation else request["query"], request.get("variables") or {}
            self.server.calls.append((name, variables))
            answer = {"data": self.server.answer(name, variables)}
        elif self.path.endswith("/file_stream"):
            self.server.streams.append((self.path.split("/")[-2], json.loads(body)))
        self.reply(answer)

    def do_PUT(self) -> None:
        self.do_POST()

    def do_GET(self) -> None:
        self.reply({})

    def reply(self, answer: dict[str, Any]) -> None:
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *arguments: object) -> None:
        pass
