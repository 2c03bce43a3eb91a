"""What a study chose, on disk: `OUT/tuned/STUDY.json` says what was searched and how, `OUT/tuned/DATASET.txt` has the
words of every method's latest study, for `settings=tuned` and `settings=FILE`. Reading them needs no Optuna.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark.settings.cell import Settings
from benchmark.settings.space import Range
from benchmark.tuning import journal
from benchmark.tuning.study import Choice
from benchmark.words import tuned_words
from benchmark.words.tune_words import Request, Search
from results import files, record


def describe(request: Request) -> None:
    """Write what each study searches, over what was known of it but for its choice."""
    folder = Path(request.runtime.out) / tuned_words.FOLDER
    with journal.transaction(folder):  # another launcher may be at the same
        for search in request.searches:
            path = folder / f"{search.study}.json"
            space = {n: [d.low, d.high] if isinstance(d, Range) else list(d) for n, d in search.space.items()}
            own = {"study": search.study, "method": search.method, "file": _file(search).name, "space": space}
            own |= {"with": tuned_words.describe_setting(search.base, search.space)}
            own |= {"epochs": search.base.epochs} | asdict(request.options)
            record.write_json(path, {"choice": None} | _read(path) | own)


def write(request: Request, choices: Sequence[Choice | None]) -> list[Path]:
    """Write what was chosen, and the files of words that follow. Returns these."""
    folder = Path(request.runtime.out) / tuned_words.FOLDER
    with journal.transaction(folder):
        for choice in filter(None, choices):
            path = folder / f"{choice.search.study}.json"
            best = {
                "trial": choice.number + 1,
                "accuracy": choice.accuracy,
                "words": _words(choice),
                "at": record.now(),
            }
            record.write_json(path, _read(path) | {"choice": best})
        paths = list(dict.fromkeys(_file(search) for search in request.searches))
        for path in paths:
            record.write_whole(path, _text(path).encode())
    return paths


def _file(search: Search) -> Path:
    return tuned_words.locate(search.runtime.out, search.base.dataset)


def _read(path: Path) -> dict[str, Any]:
    content: Any = {}
    with contextlib.suppress(OSError, ValueError):
        content = files.read_json(path)
    return content if isinstance(content, dict) else {}


def _text(path: Path) -> str:
    """The words of every method's latest choice among the studies beside `path` that are of its dataset."""
    studies = [_read(file) for file in path.parent.glob("*.json")]
    studies = [study for study in studies if study.get("file") == path.name and _is_sound(study)]
    latest = {study["method"]: study for study in sorted(studies, key=lambda study: study["choice"]["at"])}
    lines = ["# What `python -m benchmark tune` chose by validation accuracy, over the presets.", ""]
    for method in sorted(latest):
        study, best = latest[method], latest[method]["choice"]
        names = ("sampler", *(["pruner"] if study.get("pruner", "none") != "none" else []), "search_seed", "epochs")
        conditions = ", ".join(f"{name}={study.get(name)}" for name in names)
        lines.append(f"# {method}: trial {best.get('trial')} of {study.get('trials')} ({conditions})")
        lines += [f"# {method}: tuned with {study['with']}"] if study.get("with") else []
        lines += [*best["words"], ""]
    return "\n".join(lines[:-1]) + "\n"


def _is_sound(study: dict[str, Any]) -> bool:
    """Whether it has made a choice, as `write` keeps one."""
    choice = study.get("choice")
    if not isinstance(choice, dict) or not isinstance(choice.get("words"), list):
        return False
    texts = (study.get("method"), study.get("with", ""), choice.get("at"), *choice["words"])
    return all(isinstance(text, str) and text.isprintable() for text in texts)


def _words(choice: Choice) -> list[str]:
    """What was searched, as words; multiples as what they come to."""
    cell, method = choice.cell, choice.search.method
    return [f"{method}.{name}={_value(cell, name)}" for name in choice.values]


def _value(cell: Settings, name: str) -> str:
    value = cell.options[name] if name in cell.options else getattr(cell, name)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value).replace(",", "\\,")
