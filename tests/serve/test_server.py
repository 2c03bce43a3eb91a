"""The live page over HTTP: who may ask, for what, and that nothing but reading is possible."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sweep_folder
from commandline import PATIENCE

from benchmark.__main__ import main
from benchmark.serve.server import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Of a folder with a finished cell and a report, beside a file that is nobody's business."""
    out = tmp_path / "runs"
    folder = sweep_folder.write_waiting(out, "simclr")
    sweep_folder.log(folder, 200)
    sweep_folder.end(folder)
    (out / "report/figures").mkdir(parents=True)
    (out / "report/report.html").write_text("<h1>The report</h1>")
    (out / "report/figures/accuracy.svg").write_text("<svg></svg>")
    (tmp_path / "secret.txt").write_text("secret")
    with Server(out, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(
    server: Server, path: str, method: str = "GET", hosts: tuple[str, ...] = ("localhost",), **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and content. The path goes out as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=PATIENCE)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in [*(("Host", host) for host in hosts), *headers.items()]:
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), content


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9999", "127.0.0.1:1", "[::1]:8080"])
def test_it_answers_to_this_machines_own_names_by_any_port(server: Server, host: str) -> None:
    status, headers, content = ask(server, "/state.json", hosts=(host,))
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert [cell["state"] for cell in json.loads(content)["cells"]] == ["finished"]


@pytest.mark.parametrize(
    "hosts",
    [(), ("evil.example",), ("localhost.evil.example",), ("127.0.0.1.evil.example:80",), ("localhost", "evil.example")],
)
@pytest.mark.parametrize("path", ["/", "/state.json", "/report/report.html"])
def test_another_name_is_refused(server: Server, hosts: tuple[str, ...], path: str) -> None:
    status, _, content = ask(server, path, hosts=hosts)
    assert (status, content) == (403, b"This server answers to localhost and 127.0.0.1 alone.\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_nothing_but_reading_is_allowed(server: Server, method: str) -> None:
    status, headers, _ = ask(server, "/state.json", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_head_is_get_without_the_content(server: Server) -> None:
    for path in ("/", "/page.css", "/page.js", "/report/report.html", "/nothing"):
        got, head = ask(server, path), ask(server, path, "HEAD")
        assert head[0] == got[0]
        assert head[2] == b""
        assert head[1]["Content-Length"] == got[1]["Content-Length"] == str(len(got[2]))


def test_the_report_and_the_records_behind_its_rows_are_served(server: Server) -> None:
    status, headers, content = ask(server, "/report/report.html")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert content == b"<h1>The report</h1>"
    status, headers, _ = ask(server, "/report/figures/accuracy.svg")
    assert (status, headers["Content-Type"]) == (200, "image/svg+xml")
    assert "sandbox" in headers["Content-Security-Policy"]
    (name,) = (folder.name for folder in server.out.glob("simclr-*"))
    assert json.loads(ask(server, f"/{name}/record.json")[2])["status"] == "finished"


def test_no_path_leads_out_of_the_report(server: Server) -> None:
    (cell,) = (folder.name for folder in server.out.glob("simclr-*"))
    report = server.out / "report"
    (report / "link.html").symlink_to(server.out.parent / "secret.txt")
    (report / "up").symlink_to(server.out.parent)
    for path in (
        "/report/../../secret.txt",
        "/report/%2e%2e/%2e%2e/secret.txt",
        "/report/..%2f..%2fsecret.txt",
        f"/report/{server.out.parent}/secret.txt",
        f"/report/%2F{server.out.parent}/secret.txt",
        "/report/link.html",
        "/report/up/secret.txt",
        "/report/report.html%00",
        "/report/",
        "/report/figures",
        "/../secret.txt",
        "//secret.txt",
        f"/{cell}/settings.json",
        f"/{cell}/../{cell}/record.json",
        "/%zz",
    ):
        status, _, content = ask(server, path)
        assert (status, content) == (404, b"There is nothing of this name here.\n"), path
    (report / "report.html").unlink()
    assert ask(server, "/report/report.html")[0] == 404
    assert json.loads(ask(server, "/state.json")[2])["commands"]["report"] == (
        f"python -m benchmark report out={server.out}"
    )
    for path in sorted(report.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    report.rmdir()
    report.symlink_to(server.out.parent)
    assert ask(server, "/report/secret.txt")[0] == 404


def test_the_page_needs_nothing_from_elsewhere(server: Server) -> None:
    for path in ("/", "/page.css", "/curves.js", "/page.js"):
        _, headers, content = ask(server, path)
        addresses = set(re.findall(rb"https?://[^\s\"']+", content))
        assert addresses <= {b"http://www.w3.org/2000/svg"}, "the name of SVG, which is asked of nobody"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers
    assert not re.search(rb'(?:src|href)="/', ask(server, "/")[2]), "links are relative"


def test_what_has_not_changed_is_not_sent_again(server: Server) -> None:
    _, headers, plain = ask(server, "/page.js")
    status, _, content = ask(server, "/page.js", If_None_Match=headers["ETag"])
    assert (status, content) == (304, b"")
    _, packed, content = ask(server, "/page.js", Accept_Encoding="gzip")
    assert (packed["Content-Encoding"], gzip.decompress(content)) == ("gzip", plain)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("outt={out}", ["outt= does not apply here", "did you mean 'out'"]),
        ("prot=1", ["prot= does not apply here", "did you mean 'port'"]),
        ("port=http", ["port=http", "65535"]),
        ("port=70000", ["port=70000", "65535"]),
        ("port=1,2", ["port=1,2", "one value"]),
        ("out={out}/nowhere", ["no such folder"]),
        ("out={out} port={port}", ["port={port} is taken", "port=0"]),
    ],
)
def test_what_it_cannot_do_is_said_in_a_line(
    server: Server, capsys: pytest.CaptureFixture[str], words: str, parts: list[str]
) -> None:
    values = {"out": server.out, "port": server.server_port}
    assert main(["serve", *words.format_map(values).split()]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert all(part.format_map(values) in printed.err for part in parts), printed.err


def test_the_command_says_where_it_is_and_ends_by_ctrl_c(tmp_path: Path, environment: dict[str, str]) -> None:
    sweep_folder.write_waiting(tmp_path / "my runs", "simclr")
    call = [sys.executable, "-m", "benchmark", "serve", "out=my runs", "port=0"]
    process = subprocess.Popen(
        call,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell's background job ignores
    )
    assert process.stdout is not None
    first, second = process.stdout.readline(), process.stdout.readline()
    port = int(re.findall(r"http://127\.0\.0\.1:(\d+)/", first)[0])
    assert f"ssh -N -L {port}:127.0.0.1:{port} " in second
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/state.json")
    state = json.loads(connection.getresponse().read())
    assert state["commands"]["resume"] == "python -m benchmark resume out='my runs'"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=PATIENCE) == 130, "as every command that is stopped by signal 2"
