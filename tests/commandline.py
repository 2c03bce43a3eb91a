"""`python -m benchmark`, in this process or in one of its own."""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

PATIENCE = 900.0  # seconds after which something hangs; nothing here depends on the speed of the machine


def run_in_subprocess(
    words: list[str],
    environment: Mapping[str, str],
    folder: Path | None = None,
    launcher: tuple[str, ...] = (sys.executable,),
) -> subprocess.CompletedProcess[str]:
    """As a user types it: a new interpreter, whose imports alone take seconds before a training."""
    call = [*launcher, "-m", "benchmark", *words]
    return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)


def run_in_process(
    words: list[str], environment: Mapping[str, str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The same in this process, for what does not depend on being another one; what it changes is put back."""
    from benchmark.__main__ import main

    out, errors = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, environment, clear=True))
        stack.enter_context(_threads_and_paths(environment))
        stack.enter_context(contextlib.chdir(folder or Path.cwd()))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(errors))
        try:
            code = main(words)
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else 0 if exit.code is None else 1
    return subprocess.CompletedProcess(words, code, out.getvalue(), errors.getvalue())


# What `run` imports: a process that is forked behind it is at its words at once.
PRELOAD = ["benchmark.cells.run", "benchmark.launch.in_process", "benchmark.cli.reporting", "sklearn.datasets", "timm"]


def fork(
    words: list[str], environment: Mapping[str, str], out: Path, folder: Path | None = None
) -> multiprocessing.Process:
    """The same in a process of its own, for what is killed, stopped or races: forked from one that has imported torch
    and done nothing else. What it says goes to `out`, a file or a terminal, which then is the one it is run from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process: Any = context.Process(target=_run_forked, args=(words, dict(environment), out, folder or Path.cwd()))
    process.start()
    return process


def fork_pair(words: list[str], environment: Mapping[str, str], folder: Path) -> tuple[list[int], str]:
    """The same over two processes, as torchrun would have started them: their exit codes, and what the first said."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    both = [
        fork(words, {**environment, **group, "RANK": rank, "LOCAL_RANK": rank}, folder / f"rank-{rank}.txt")
        for rank in "01"
    ]
    for process in both:
        process.join(PATIENCE)
    return [process.exitcode for process in both], (folder / "rank-0.txt").read_text()


def _run_forked(words: list[str], environment: dict[str, str], out: Path, folder: Path) -> None:
    from benchmark.__main__ import main

    terminal = os.open(out, os.O_RDWR | os.O_CREAT | os.O_NOCTTY)
    if os.isatty(terminal):
        os.login_tty(terminal)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which `nohup` has its children ignore
    else:
        os.dup2(terminal, 1)
        os.dup2(terminal, 2)
    os.chdir(folder)
    os.environ.clear()
    os.environ |= environment
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(":") if path and path not in sys.path]
    sys.exit(main(words))


def wait_until(true: Callable[[], Any], what: str) -> None:
    """Wait for what happens in another process."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@contextlib.contextmanager
def _threads_and_paths(environment: Mapping[str, str]) -> Iterator[None]:
    import torch

    threads, level = torch.get_num_threads(), logging.getLogger().level
    extra = [path for path in environment.get("PYTHONPATH", "").split(":") if path and path not in sys.path]
    with mock.patch.object(sys, "path", [*extra, *sys.path]):
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            logging.getLogger().setLevel(level)
