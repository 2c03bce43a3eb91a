"""`python -m benchmark`, in this process or in one of its own."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

PATIENCE = 900.0  # seconds after which something hangs; nothing here depends on the speed of the machine


def outside(
    words: list[str],
    environment: Mapping[str, str],
    folder: Path | None = None,
    launcher: tuple[str, ...] = (sys.executable,),
) -> subprocess.CompletedProcess[str]:
    """As a user types it: a new interpreter, whose imports alone take seconds before a training."""
    call = [*launcher, "-m", "benchmark", *words]
    return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)


def inside(
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


def until(true: Callable[[], Any], what: str) -> None:
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
