"""What a cell tells Weights & Biases. Nothing here can fail a cell or hold it up for long; the files are the truth.

A run's id begins with the cell's key and is its folder's own, as another folder may have the same cell. Every attempt
says resume="allow": what was interrupted goes on in the same run. Its group is the sweep, which is the name of the
folder `out`; its files lie in the cell's folder. `wandb` is imported only where a run is tracked, and this file imports
no torch.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import io
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from benchmark.errors import UsageError, explain, unknown
from benchmark.settings.runtime import Runtime
from benchmark.tracking.site import chosen_mode, has_key, is_installed, unreachable
from results import files, record

Mode = Literal["online", "offline", "off"]
# The client's words for them.
MODES: dict[str, Mode] = {"online": "online", "run": "online", "shared": "online", "offline": "offline"}
MODES |= {"dryrun": "offline", "disabled": "off"}
INIT, FINISH = 10.0, 15.0  # seconds that a cell waits at most for a start, the last upload
LOST = 2.0  # seconds of a run that a SIGKILL may take with it
EMPTY = 7  # bytes of a run's file of which nothing was ever flushed; `wandb sync` fails for all over one
BLOCK, HEAD, WHOLE, FIRST, LAST = 32_768, 7, 1, 2, 4  # of the file: bytes of a block and before a part; kinds of parts


def require(runtime: Runtime) -> None:
    """Raise `UsageError` for a mode that is asked for by name and not installed, and for a name that is none."""
    if runtime.wandb in ("online", "offline") and not is_installed("wandb"):
        raise UsageError(f"wandb={runtime.wandb}: wandb is not installed; pip install '.[wandb]'")
    source, text = _choose(runtime)
    if text and text not in MODES:
        raise unknown("mode of W&B", text, MODES, f", set by {source}")


def _choose(runtime: Runtime) -> tuple[str, str]:
    """As `chosen_mode`, where that counts."""
    return chosen_mode() if runtime.wandb == "auto" and is_installed("wandb") else ("", "")


def mode(runtime: Runtime) -> Mode:
    """What `wandb=` says, and for auto the environment or `wandb offline`, else online where there is a key."""
    if runtime.wandb != "auto":
        return runtime.wandb
    _, text = chosen_mode()
    chosen: Mode = MODES.get(text) or ("online" if has_key() else "off")
    return chosen if chosen == "off" or is_installed("wandb") else "off"


def count_unsynced(out: Path) -> int:
    """Runs below `out` that were written offline and were not synced since."""
    return sum(not path.with_name(path.name + ".synced").exists() for path in out.glob("*/wandb/offline-run-*/*.wandb"))


class Run:
    """One cell's run. Where there is none it does nothing, as it does after the client has failed once."""

    def __init__(self, folder: Path, failed: Callable[[str], None]) -> None:
        self._client: Any = None
        self._folder = folder
        self._failed = failed
        self._step = 0  # of the last line

    def begin(self, start: Callable[[], Any]) -> None:
        def begin() -> None:
            self._client = start()

        self._safely(begin)

    def log(self, line: dict[str, Any]) -> None:
        """A line of log.jsonl; its `step` is the x axis, as the client counts lines of its own."""
        if self._client is not None:
            self._step = line["step"]
            self._safely(lambda: self._client.log(line))

    def end(self, cell_record: dict[str, Any]) -> None:
        """The cell has its record."""
        if self._client is not None:
            self._safely(lambda: self._tell(cell_record))
        self.close(1 if cell_record["status"] == "failed" else 0)

    def close(self, exit_code: int) -> None:
        if self._client is not None:
            self._safely(lambda: self._finish(exit_code))
        self._client = None

    def _tell(self, cell_record: dict[str, Any]) -> None:
        self._client.config.update({"resolved": cell_record["resolved"]}, allow_val_change=True)
        if cell_record["metrics"]:
            self._show()
        self._client.summary.update(record.outcome(cell_record))
        self._client.tags = (*self._client.tags, cell_record["status"])

    def _show(self) -> None:
        """What the cell's folder has to look at: the map of features, and images with their neighbours."""
        path = self._folder / record.LOOKS_NAME
        if path.exists():
            self._client.log({"step": self._step, **_pictures(files.read_json(path))})

    def _finish(self, exit_code: int) -> None:
        path = Path(self._client.settings.sync_file)
        try:
            self._client.finish(exit_code=exit_code)
        except TimeoutError:
            raise TimeoutError(f"not all was sent in {FINISH:g} s; `wandb sync {path.parent}` sends it") from None
        until = time.monotonic() + 2 * LOST
        while self._client.settings.mode == "offline" and not _has_end(path):  # of a full disk the client says nothing
            if time.monotonic() > until:
                raise OSError(f"{path} is cut short; is the disk full?")
            time.sleep(0.05)

    def _safely(self, what: Callable[[], object]) -> None:
        try:
            what()
        except Exception as error:  # noqa: BLE001 - whatever the client raises, the cell goes on
            self._client = None
            _tear_down()
            self._failed(explain(error))


class Tracker:
    """The runs of one process, cell after cell. What fails online is kept offline from then on, or not at all."""

    def __init__(self) -> None:
        self._mode: Mode | None = None  # settled with the first cell

    @contextlib.contextmanager
    def cell(
        self, begun: dict[str, Any], folder: Path, runtime: Runtime, is_main: bool, say: Callable[[str], None]
    ) -> Iterator[Run]:
        """The run of the cell whose record is `begun`, closed as failed by whatever is raised within."""

        def step_down(why: str) -> None:
            self._mode = "offline" if self._mode == "online" else "off"
            then = "runs are kept offline, and `wandb sync` sends them" if self._mode == "offline" else "no more of it"
            say(f"W&B: {why}; {then}")

        if self._mode is None:
            self._mode = mode(runtime) if is_main else "off"
            source, _ = _choose(runtime)
            if source and is_main:
                say(f"W&B: {self._mode}, by {source}")
            why = unreachable() if self._mode == "online" else ""
            if why:
                step_down(why)
        run = Run(folder, step_down)
        if self._mode == "online":
            run.begin(lambda: _start(begun, folder, runtime, "online"))
        if self._mode == "offline":  # or is so by now
            run.begin(lambda: _start(begun, folder, runtime, "offline"))
        try:
            yield run
        except BaseException as error:
            run.close(getattr(error, "exit_code", 1))
            raise


def _start(begun: dict[str, Any], folder: Path, runtime: Runtime, mode: Literal["online", "offline"]) -> Any:
    """The client's run of a cell."""
    files.make_folder(folder / "wandb")
    for path in folder.glob("wandb/offline-run-*/*.wandb"):
        if path.stat().st_size <= EMPTY:
            shutil.rmtree(path.parent)
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):  # else they are made in the home
        os.environ.setdefault(name, str(folder.absolute() / "wandb" / "own"))
    # The client's reports about itself: where the network is gone, a process waits 20 s at its end to send them.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    settings = begun["settings"]
    names = [settings["dataset"]["name"], settings["backbone"]]
    client = wandb.init(
        entity=runtime.wandb_entity or None,
        project=runtime.wandb_project,
        id=_find_id(folder) or f"{begun['key']}-{uuid.uuid4().hex[:8]}",
        name=folder.name,
        group=record.sweep(Path(runtime.out)) + f" {record.TRIAL}" * record.is_trial(begun),  # in no report of cells
        job_type=settings["method"][-64:],
        tags=[name[-64:] for name in names if name],
        config=settings | {name: begun[name] for name in ("key", "protocol", "versions", "commit", "dirty")},
        resume="allow",
        mode=mode,
        settings=wandb.Settings(
            root_dir=str(folder.absolute()),
            console="off",
            silent=True,
            symlink=False,
            init_timeout=INIT,
            finish_timeout=FINISH,
            finish_timeout_raises=True,
            x_transaction_log_flush_interval=LOST,
            x_save_requirements=False,  # the record has the versions; reading all that is installed takes its time
        ),
    )
    if not Path(client.dir).resolve().is_relative_to(folder.resolve()):
        client.finish()
        raise OSError(f"{folder} cannot be written: the client would keep the run in {client.dir}")
    for name in ("step", "epoch"):
        client.define_metric(name)
    client.define_metric("*", step_metric="step")
    return client


def _find_id(folder: Path) -> str:
    """The id of the run that an earlier attempt began, from the name that the client gave its folder; else ""."""
    names = [re.fullmatch(r"(?:offline-)?run-\d{8}_\d{6}-([\w-]+)", path.name) for path in folder.glob("wandb/*run-*")]
    return max((match[1] for match in names if match), default="")


def _pictures(gallery: dict[str, Any]) -> dict[str, Any]:
    """Panel -> the client's picture of it."""
    import plotly.graph_objects as go
    import wandb
    from PIL import Image

    places, classes = gallery["projection"], gallery["classes"]
    axes = {"visible": False}
    figure = go.Figure(layout={"xaxis": axes, "yaxis": axes | {"scaleanchor": "x"}})
    for label in sorted(set(places["label"])):
        own = [at for at, number in enumerate(places["label"]) if number == label]
        x, y = ([places[axis][at] for at in own] for axis in ("x", "y"))
        figure.add_scatter(x=x, y=y, mode="markers", name=str(classes[label]))
    caption = "A row a test image: itself, then the training images nearest to it in the features"
    grid = Image.open(io.BytesIO(base64.b64decode(gallery["neighbours"]["png"]))).convert("RGB")
    return {"features": wandb.Plotly(figure), "neighbours": wandb.Image(grid, caption=caption)}


def _tear_down() -> None:
    """End the client's own process, which would refuse an id that it has seen. Takes `FINISH` seconds at most."""
    import wandb

    with contextlib.suppress(Exception):
        wandb.teardown(1)


def _has_end(path: Path) -> bool:
    """Whether the run's exit is among the last records of its file, and the last of them is whole.

    The exit need not be the last one: what the client learns of the machine may come behind it.
    """
    kinds: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")  # whose types mypy cannot see
    with path.open("rb") as file:
        first = max(0, path.stat().st_size // BLOCK - 1) * BLOCK
        file.seek(first)
        data = file.read()
    # LevelDB's log format: before each part of a record stand its checksum, its length and which part it is; what has
    # no room in a block for more than that begins with the next one.
    at, record, ended = 0 if first else EMPTY, None, False
    while at + HEAD <= len(data):
        room = BLOCK - at % BLOCK
        if room < HEAD:
            at += room
            continue
        length, part = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        at += HEAD + length
        if part in (WHOLE, FIRST):
            record = data[at - length : at]
        elif record is not None:  # else it begins before what is read here
            record += data[at - length : at]
        if part in (WHOLE, LAST) and record is not None and at <= len(data):
            ended = ended or kinds.Record.FromString(record).HasField("exit")
    return ended and at == len(data)
