"""A cell's run at Weights & Biases: online, kept offline in the cell's folder, or neither.

Every attempt says resume="allow": what was interrupted goes on in the same run. Its group is the sweep, which is the
name of the folder `out`. `wandb` is imported only where a run is tracked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from benchmark.errors import unknown
from benchmark.settings.runtime import Runtime, parse_trackers
from benchmark.tracking import wandb_file
from benchmark.tracking.site import find_mode, find_obstacle, has_key, is_installed
from benchmark.tracking.tracked_cell import NEIGHBOURS, TrackedCell, decode_neighbours
from results import files, record

Mode = Literal["online", "offline", "off"]
# The client's words for them.
MODES: dict[str, Mode] = {"online": "online", "run": "online", "shared": "online", "offline": "offline"}
MODES |= {"dryrun": "offline", "disabled": "off"}
INIT, FINISH = 10.0, 15.0  # seconds that a cell waits at most for a start, the last upload
LOST = 2.0  # seconds of a run that a SIGKILL may take with it


def require(runtime: Runtime) -> None:
    """Raise `UsageError` for a mode that is set outside of the words and is none."""
    source, text = _choose(runtime)
    if text and text not in MODES:
        raise unknown("mode of W&B", text, MODES, f", set by {source}")


def _choose(runtime: Runtime) -> tuple[str, str]:
    """As `find_mode`, where that counts."""
    return find_mode() if runtime.wandb == "auto" and _uses_wandb(runtime) and is_installed("wandb") else ("", "")


def _uses_wandb(runtime: Runtime) -> bool:
    return bool({"auto", "wandb"} & set(parse_trackers(runtime)))


def mode(runtime: Runtime) -> Mode:
    """What `wandb=` says, and for auto the environment or `wandb offline`, else online where there is a key or W&B is
    asked for by name."""
    if not _uses_wandb(runtime):
        return "off"
    if runtime.wandb != "auto":
        return runtime.wandb
    _, text = find_mode()
    chosen: Mode = MODES.get(text) or ("online" if has_key() or "wandb" in parse_trackers(runtime) else "off")
    return chosen if chosen == "off" or is_installed("wandb") else "off"


def count_unsynced(out: Path) -> int:
    """Runs below `out` that were written offline and were not synced since."""
    return sum(not path.with_name(path.name + ".synced").exists() for path in out.glob("*/wandb/offline-run-*/*.wandb"))


class Wandb:
    """W&B as a destination of one process's runs. What fails online is kept offline from then on, or not at all."""

    title = "W&B"

    def __init__(self, runtime: Runtime, say: Callable[[str], None]) -> None:
        self._mode: Mode = mode(runtime)
        source, _ = _choose(runtime)
        if source:
            say(f"W&B: {self._mode}, by {source}")
        if self._mode == "online" and (why := find_obstacle()):
            say(f"W&B: {why}; {self._step_down()}")

    @property
    def on(self) -> bool:
        return self._mode != "off"

    def start(self, cell: TrackedCell) -> WandbRun:
        earlier_files = cell.folder.glob(f"wandb/{'offline-' if self._mode == 'online' else '*'}run-*/*.wandb")
        earlier = max(map(wandb_file.last_step, earlier_files), default=-1)  # online the site knows of what was sent
        client = _start(cell, self._mode)
        return WandbRun(client, cell.folder, max(earlier, client.summary.get("step") or -1))

    def give_up(self) -> str:
        """Behind an error: what becomes of the runs that follow."""
        _tear_down()
        return self._step_down()

    def _step_down(self) -> str:
        self._mode = "offline" if self._mode == "online" else "off"
        return "runs are kept offline, and `wandb sync` sends them" if self.on else "nothing more is sent to it"


class WandbRun:
    """One cell's run, as the client has it, which takes no line back: what an attempt repeats is not told again."""

    def __init__(self, client: Any, folder: Path, earlier: int) -> None:
        self._client, self._folder, self._earlier = client, folder, earlier
        self._step = max(earlier, 0)  # of the last line

    def log(self, line: dict[str, Any]) -> None:
        """A line of log.jsonl; its `step` is the x axis, as the client counts lines of its own."""
        if line["step"] > self._earlier:
            self._step = line["step"]
            self._client.log(line)

    def end(self, cell_record: dict[str, Any]) -> None:
        self._client.config.update({"resolved": cell_record["resolved"]}, allow_val_change=True)
        if cell_record["metrics"]:
            self._show()
        self._client.summary.update(record.describe_outcome(cell_record))
        self._client.tags = (*self._client.tags, cell_record["status"])

    def close(self, exit_code: int) -> None:
        path = Path(self._client.settings.sync_file)
        try:
            self._client.finish(exit_code=exit_code)
        except TimeoutError:
            raise TimeoutError(f"not all was sent in {FINISH:g} s; `wandb sync {path.parent}` sends it") from None
        until = time.monotonic() + 2 * LOST
        # Of a full disk the client says nothing.
        while self._client.settings.mode == "offline" and not wandb_file.has_end(path):
            if time.monotonic() > until:
                raise OSError(f"{path} is cut short; is the disk full?")
            time.sleep(0.05)

    def _show(self) -> None:
        """What the cell's folder has to look at: the map of features, and images with their neighbours."""
        path = self._folder / record.LOOKS_NAME
        if path.exists():
            self._client.log({"step": self._step, **_pictures(files.read_json(path))})


def _start(cell: TrackedCell, mode: Mode) -> Any:
    """The client's run of a cell."""
    folder, runtime = cell.folder, cell.runtime
    files.make_folder(folder / "wandb")
    for path in folder.glob("wandb/offline-run-*/*.wandb"):
        if path.stat().st_size <= wandb_file.EMPTY:
            shutil.rmtree(path.parent)
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):  # else they are made in the home
        os.environ.setdefault(name, str(folder.absolute() / "wandb" / "own"))
    # The client's reports about itself: where the network is gone, a process waits 20 s at its end to send them.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    if "WANDB_MODE" in os.environ:  # which the client takes in lower case alone
        os.environ["WANDB_MODE"] = mode
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    client = wandb.init(
        entity=runtime.wandb_entity or None,
        project=runtime.wandb_project,
        id=cell.id,
        name=cell.name,
        group=cell.group,
        job_type=cell.content["settings"]["method"][-64:],
        tags=cell.tags,
        config=cell.config,
        resume="allow",
        mode="online" if mode == "online" else "offline",
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


def _pictures(gallery: dict[str, Any]) -> dict[str, Any]:
    """Panel -> the client's picture of it."""
    import plotly.graph_objects as go
    import wandb

    points, classes = gallery["projection"], gallery["classes"]
    axes = {"visible": False}
    figure = go.Figure(layout={"xaxis": axes, "yaxis": axes | {"scaleanchor": "x"}})
    for label in sorted(set(points["label"])):
        rows = [at for at, number in enumerate(points["label"]) if number == label]
        x, y = ([points[axis][at] for at in rows] for axis in ("x", "y"))
        figure.add_scatter(x=x, y=y, mode="markers", name=str(classes[label]))
    grid = wandb.Image(decode_neighbours(gallery), caption=NEIGHBOURS)
    return {"features": wandb.Plotly(figure), "neighbours": grid}


def _tear_down() -> None:
    """End the client's own process, which would refuse an id that it has seen. Takes `FINISH` seconds at most."""
    import wandb

    with contextlib.suppress(Exception):
        wandb.teardown(1)
