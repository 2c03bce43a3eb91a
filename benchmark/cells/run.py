"""One cell: train, evaluate, record. Doing it again does nothing; doing it after a stop goes on."""

from __future__ import annotations

import contextlib
import math
import os
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import methods
from benchmark.augment import policies
from benchmark.cells import lease, machine, validation_curve
from benchmark.cells.validation_curve import ValidationCurve
from benchmark.data import identity
from benchmark.data.datasets import Data
from benchmark.display.progress import ProgressDisplay
from benchmark.errors import explain
from benchmark.evaluate import gallery, headline, linear
from benchmark.evaluate.frozen_cell import FrozenCell, freeze
from benchmark.settings import address, like, remarks
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from benchmark.tracking.tracker import Tracker
from benchmark.training import build, checkpoint, train
from benchmark.training.batches import Batches
from benchmark.training.collapse import COLLAPSED_RANK
from benchmark.training.distributed import World
from benchmark.training.engine import has_tf32, resolve_precision
from benchmark.training.stop import Stop
from results import files, record


@dataclass(frozen=True)
class RunContext:
    """Where cells run: this process, its device, and who watches."""

    runtime: Runtime
    world: World
    device: torch.device
    stop: Stop
    display: ProgressDisplay
    tracker: Tracker = field(default_factory=Tracker)


def run(settings: Settings, context: RunContext, title: str = "") -> dict[str, Any] | None:
    """The cell's record: the one there is, or a new one. None where another process has the cell, or this one lost it
    or may not write there. Trackers call its run by the `title`.

    A failed record is tried again; any other stands. Raises `Stopped` behind a checkpoint.
    """
    folder = Path(context.runtime.out) / address.name_folder(settings)
    with contextlib.ExitStack() as stack:
        leases: list[lease.Lease] = []

        def take() -> str:
            """Why the cell cannot be had; nothing where it is ours."""
            try:
                leases.extend(filter(None, [stack.enter_context(lease.hold(folder))]))
            except PermissionError as error:  # another user's
                return f"{error.filename} cannot be written to ({error.strerror}); left as it is"
            return "" if leases else "another process is at work on it; left to that one"

        try:
            if obstacle := context.world.broadcast(take):
                context.display.say(f"{folder.name}: {obstacle}")
                return None
            existing = context.world.broadcast(lambda: record.read(folder))
            if existing is not None and existing["status"] != "failed":
                return existing
            guard, is_main, say = leases[0].guard if leases else _no_guard, context.world.is_main, context.display.say
            with context.tracker.cell(
                start_record(settings), folder, title, context.runtime, is_main, say
            ) as tracker_run:
                result = _produce_record(settings, context, folder, guard, tracker_run.log)
                tracker_run.end(result)
            return result
        except lease.Lost as lost:
            if context.world.size > 1:  # the others wait in a collective: torchrun ends them
                raise
            context.display.say(f"{lost}; left as it is")
            return None


def _produce_record(
    settings: Settings,
    context: RunContext,
    folder: Path,
    guard: Callable[[], None],
    report_line: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Train, evaluate and write the record. `guard` is called before each write, and may raise `Lost`."""
    context.world.broadcast(lambda: _begin(settings, folder, context.world))
    result = start_record(settings)
    result["resolved"] |= describe_arithmetic(settings, context)
    try:
        result |= _train_and_evaluate(settings, context, folder, guard, report_line, result["cost"], result["resolved"])
    except lease.Lost:
        raise
    except Exception as error:
        guard()
        result |= {"status": "failed", "reason": explain(error)}
        if not _write_error(folder, context.world):
            raise
        if context.world.size > 1:  # the others may wait in a collective: tell the folder, and let torchrun end them
            record.write(folder, result | {"finished": record.now()})
            raise
    guard()
    if result["status"] != "failed" and context.world.is_main:
        (folder / "error.txt").unlink(missing_ok=True)  # of an attempt before
    result["finished"] = record.now()
    context.world.broadcast(lambda: record.write(folder, result))
    if settings.trial and result["status"] != "failed" and context.world.is_main:  # nothing more can be measured of it
        (folder / checkpoint.FILE_NAME).unlink(missing_ok=True)
    return result


def _begin(settings: Settings, folder: Path, world: World) -> None:
    record.write_json(folder / "settings.json", asdict(settings))
    if world.size > 1:  # the first of the processes to fail makes it anew
        (folder / "error.txt").unlink(missing_ok=True)


def _write_error(folder: Path, world: World) -> bool:
    """Keep the traceback of what is being handled. False where another process of the cell failed before this one,
    which then only lost its connection to that one."""
    path, text = folder / "error.txt", traceback.format_exc().encode(errors="replace")
    try:
        if world.size == 1:
            record.write_whole(path, text)
        else:
            with files.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
                file.write(text)
    except FileExistsError:
        return False
    except OSError:  # a full disk may be the error
        pass
    return True


def start_record(settings: Settings) -> dict[str, Any]:
    """The record of a cell that starts now, as it is before anything is known of its end."""
    return {
        "schema": record.SCHEMA,
        "key": address.hash_cell(settings),
        "protocol": headline.hash_protocol(settings),
        "status": "finished",
        "reason": None,
        "settings": address.identify(settings),
        "metrics": {},
        "cost": {},
        "versions": machine.read_versions(),
        **machine.read_commit(),
        **({"purpose": record.TRIAL} if settings.trial else {}),
        "started": record.now(),
        "resolved": {"family": find_family(settings.method), "results_version": address.RESULTS_VERSION}
        | {"method_version": settings.method_version or "1"}
        | ({"like": protocol} if (protocol := like.find(settings)) else {}),
    }


def describe_arithmetic(settings: Settings, context: RunContext) -> dict[str, Any]:
    """What this machine makes of the cell's numbers beyond rounding; of two kinds none is averaged with the other."""
    return {
        "precision": resolve_precision(settings.precision or "fp32", context.device),
        "compile": context.runtime.compile and settings.precision is not None,
        "tf32": has_tf32(context.device),
    }


def find_family(method: str) -> str:
    """The method's family, for tables that group by it; "" where it says none or cannot be read."""
    try:
        return methods.describe(method).family
    except (methods.BrokenMethod, LookupError):
        return ""


def _train_and_evaluate(
    settings: Settings,
    context: RunContext,
    folder: Path,
    guard: Callable[[], None],
    report_line: Callable[[dict[str, Any]], None],
    cost: dict[str, Any],
    resolved: dict[str, Any],
) -> dict[str, Any]:
    """The record's status, reason, metrics and the test images that were right; `cost` and `resolved` are filled."""
    world, device = context.world, context.device
    build.require_code_and_processes(settings, world)
    machine.reset_peak_memory(device)
    cost |= {"views": 0, "pixels_per_image": 0, "seconds": 0.0}
    cost |= {"device": machine.name_device(device), "processes": world.size}
    data = build.load_data(settings)
    method, stem = build.build_method(settings, data, device)
    precision = resolved["precision"]
    batches = build.build_batches(settings, method, data, context.world, context.device, precision)
    resolved |= {"stem": stem} | _resolve(settings, context.runtime, data, batches)
    reason, whole, status = None, True, ""
    evaluated: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    if method.trains:
        engine = build.build_engine(settings, method, world, device, precision)
        resolved |= {"images": len(batches.split), "steps_per_epoch": batches.per_epoch}
        if resolved["compile"]:
            engine.compile()
            evaluated, resolved["compile"] = engine.uncompiled, engine.compiled
            if not engine.compiled:
                context.display.say(f"nothing is compiled: batch_norm={settings.batch_norm} spans the processes")
        curve = ValidationCurve(settings, context.runtime, method, data, batches, precision, folder, context.display)
        resolved |= {"validation_curve": curve.describe()}
        key, stop, display = address.hash_cell(settings), context.stop, context.display
        outcome = train.train(
            engine, batches, settings, context.runtime, key, folder, stop, display, guard, report_line, curve.ask
        )
        reason, whole, status = outcome.reason, outcome.whole, outcome.status
        resolved["warnings"] += [f"{settings.method}: {sign}" for sign in outcome.signs]
        cost |= {"views": outcome.views, "pixels_per_image": batches.pixels, "seconds": round(outcome.seconds, 3)}
        cost |= {"images_per_second": round(outcome.images_per_second, 2)}
        cost |= world.broadcast(lambda: validation_curve.summarise(files.read_lines(folder / "log.jsonl")))
    cost["peak_memory_bytes"] = machine.read_peak_memory(device)
    metrics, correct = dict[str, float](), dict[str, str]()
    if whole:  # one process looks at the test set; the others wait
        began = time.perf_counter()
        frozen = freeze(method, data, batches, device)
        numbers = headline.evaluate_trial(frozen) if settings.trial else headline.evaluate(frozen)
        # Two images lie on one line however healthy they are.
        contrastive = method.trains and not method.supervised and len(data.validation) > 2
        with evaluated():
            metrics, correct, collapse = world.broadcast(lambda: _judge(numbers, contrastive))
        resolved["warnings"] += [f"{settings.method}: {note}" for note in linear.explain(metrics)]
        reason = reason or collapse  # the training's own sign names a remedy
        cost["evaluation_seconds"] = round(time.perf_counter() - began, 3)
        if metrics and world.is_main and not settings.trial:  # it shows test images
            _write_gallery(frozen, folder, guard, context.display)
    result = {"status": status or ("collapsed" if reason else "finished"), "reason": reason, "metrics": metrics}
    return result | ({record.CORRECT: correct} if correct else {})


def _resolve(settings: Settings, runtime: Runtime, data: Data, batches: Batches) -> dict[str, Any]:
    """What the settings came to, and what is to be known of the data."""
    used = batches.augmentation
    resolved: dict[str, Any] = {"policies": [policies.describe(p) for p in used.policies]} | batches.statistics()
    if runtime.deterministic:
        resolved |= {"deterministic": True}
    if note := build.describe_weights(settings):
        resolved |= {"weights": note}
    if used.small:
        scales = [list(crop.scale) for crop in used.small]
        same = scales.count(scales[0]) == len(scales)
        resolved |= {"small_crops": list(used.small_sides), "small_crop_scale": scales[0] if same else scales}
    resolved |= {"protocol": headline.describe_protocol(settings), "test": headline.describe_test_set(data)}
    resolved |= {"data": identity.describe([settings.dataset]), "warnings": remarks.warn(settings)}
    return resolved | {"fitted": remarks.explain(settings, runtime.preset)}


def _write_gallery(frozen: FrozenCell, folder: Path, guard: Callable[[], None], display: ProgressDisplay) -> None:
    """Write what people look at beside the numbers; without it the cell is as good."""
    try:
        guard()
        gallery.write(frozen, folder, "pca")
    except lease.Lost:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the cell's numbers stand
        display.say(f"{folder.name}: no {record.LOOKS_NAME}: {explain(error)}")


def _judge(
    numbers: Generator[tuple[str, float], None, dict[str, str]], contrastive: bool
) -> tuple[dict[str, float], dict[str, str], str | None]:
    """The metrics, the test images that were right, and why the metrics mean a collapse, if they do; two classes
    rightly leave a supervised method one line. Raises ValueError for a metric that no record can hold."""
    correct: dict[str, str] = {}

    def collect() -> Iterator[tuple[str, float]]:
        correct.update((yield from numbers))

    try:
        metrics = dict(collect())
    except headline.NotFinite as error:
        return {}, {}, str(error)
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise ValueError(f"the metric {name} is {value}")
    rank = metrics["effective_rank"]
    if contrastive and rank < COLLAPSED_RANK:
        return metrics, correct, f"effective rank {rank:.2f} of the features: all images lie on one line or point"
    return metrics, correct, None


def _no_guard() -> None:
    """Only the main process writes."""
