"""The page over HTTP, on the loopback address: it can be read, and nothing else.

Whoever asks has to call the server `localhost`, `127.0.0.1` or `[::1]`, by any port, as through a tunnel: a site that
lets its own name lead here is refused. A path is looked up among those that there are, and never made into a file's.
"""

from __future__ import annotations

import errno
import getpass
import gzip
import hashlib
import json
import os
import platform
import re
import shlex
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, unquote

from benchmark.errors import UsageError
from benchmark.serve.sweep import Sweep
from results import files, record

ADDRESS = "127.0.0.1"
_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE | re.ASCII)
_OWN = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
# report.html names its own scripts; what lies beside it may not run any, and none may ask a network.
_REPORT = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_FILE = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".md": "text/plain; charset=utf-8",
    ".tex": "text/plain; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}


class Server(ThreadingHTTPServer):
    """The page of the folder `out` at `port`, 0 for a free one. Raises `UsageError` for one that cannot be had."""

    def __init__(self, out: Path, port: int) -> None:
        self.out, self.sweep = out, Sweep(out)
        try:
            super().__init__((ADDRESS, port), Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            why = "is taken" if error.errno == errno.EADDRINUSE else "may not be had"
            raise UsageError(f"port={port} {why}: give another, or port=0 for a free one") from error

    def server_bind(self) -> None:
        """Without the look-up of a name that the library's has, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if not isinstance(error, OSError):  # of a browser that has gone
            print(f"error: {error!r}", file=sys.stderr)

    def state(self) -> dict[str, Any]:
        """What the page shows."""
        report = self.report().get("report.html")
        modified = report.stat().st_mtime if report else None
        folder = {"title": record.name_sweep(self.out), "folder": str(self.out), "report": modified and round(modified)}
        out = f"out={shlex.quote(str(self.out))}"
        commands = {name: f"python -m benchmark {name} {out}" for name in ("report", "resume")}
        return folder | {"commands": commands} | self.sweep.state()

    def report(self) -> dict[str, Path]:
        """Path within report/ -> file, of all that lie there; what links lead to does not."""
        top = self.out / "report"
        if top.is_symlink():
            return {}
        paths = [Path(folder, name) for folder, _, names in os.walk(top) for name in names]
        return {path.relative_to(top).as_posix(): path for path in paths if path.is_file() and not path.is_symlink()}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "benchmark", ""
    timeout = 60

    def do_GET(self) -> None:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
            return self._refuse(403, "This server answers to localhost and 127.0.0.1 alone.")
        path, _, query = self.path.partition("?")
        path = unquote(path)
        try:
            if path in ("/", "/page.css", "/curves.js", "/page.js"):
                name = path.removeprefix("/") or "page.html"
                return self._answer(_read_page(name), Path(name).suffix, _OWN)
            if path == "/state.json":
                return self._answer(_to_json(self.server.state()), ".json", _OWN)
            if path == "/curves.json":
                return self._answer(_to_json(self.server.sweep.curves(parse_qs(query).get("cell", []))), ".json", _OWN)
            if path.startswith("/report/"):
                return self._send_report(path.removeprefix("/report/"))
            cell, _, name = path.removeprefix("/").partition("/")
            folder = self.server.sweep.folder(cell)
            if folder is not None and name == record.FILE_NAME:  # to which the report's rows lead
                return self._send_file(folder / name, _FILE)
        except FileNotFoundError:
            pass
        except ConnectionError:  # the browser has gone
            raise
        except OSError as error:
            return self._refuse(503, files.make_printable(str(error)))
        self._refuse(404, "There is nothing of this name here.")

    do_HEAD = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The library's own refusals: a method that it does not know is one that is not allowed."""
        if code == 501:
            self._refuse(405, "This server can only be read: GET and HEAD.")
        else:
            self._refuse(code, message or "")

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the terminal has the address, and stays as it is."""

    def _send_report(self, name: str) -> None:
        path = self.server.report().get(name)
        if path is None:
            raise FileNotFoundError(name)
        self._send_file(path, _REPORT if name == "report.html" else _FILE)

    def _send_file(self, path: Path, policy: str) -> None:
        try:
            with files.open_file(path) as file:
                content = file.read(files.MOST_BYTES)
        except OSError as error:  # a link, or what may not be read
            raise FileNotFoundError(path) from error
        self._answer(content, path.suffix, policy)

    def _answer(self, content: bytes, kind: str, policy: str) -> None:
        tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
        headers = {"Content-Security-Policy": _close(policy), "ETag": tag, "Vary": "Accept-Encoding"}
        if self.headers.get("If-None-Match") == tag:
            return self._begin(304, kind, headers)
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            content, headers["Content-Encoding"] = gzip.compress(content, 1, mtime=0), "gzip"
        self._begin(200, kind, headers | {"Content-Length": str(len(content))})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, code: int, message: str) -> None:
        """In one line; whatever else the request brought is not read."""
        content, allowed = f"{message}\n".encode(), {"Allow": "GET, HEAD"} if code == 405 else {}
        headers = {"Content-Length": str(len(content)), "Connection": "close"}
        self._begin(code, ".md", allowed | headers | {"Content-Security-Policy": _close(_FILE)})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _begin(self, code: int, kind: str, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in (_ALWAYS | {"Content-Type": _KINDS.get(kind, "application/octet-stream")} | headers).items():
            self.send_header(name, value)
        self.end_headers()


def serve(out: Path, port: int) -> None:
    """Say where the page is, and answer until Ctrl-C, a `KeyboardInterrupt`. Raises `UsageError` as `Server` does."""
    with Server(out, port) as server:
        port = server.server_port
        print(f"{out}: http://{ADDRESS}:{port}/ shows its cells while they train; Ctrl-C ends it")
        tunnel = f"ssh -N -L {port}:{ADDRESS}:{port} {shlex.quote(f'{getpass.getuser()}@{platform.node()}')}"
        print(f"from another machine: {tunnel}, and the same address there", flush=True)
        server.serve_forever()


def _read_page(name: str) -> bytes:
    """A file of the page; its looks are those of the report, and some of its own."""
    content = resources.files("benchmark.serve").joinpath(name).read_bytes()
    return resources.files("results.report").joinpath(name).read_bytes() + content if name == "page.css" else content


def _to_json(data: Any) -> bytes:
    return json.dumps(data, allow_nan=False, separators=(",", ":")).encode()


def _close(policy: str) -> str:
    """The policy, and what none of ours needs."""
    return f"{policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
