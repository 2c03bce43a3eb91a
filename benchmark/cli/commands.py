"""Each command and its function, which takes the words and the flags, and returns the exit code."""

from __future__ import annotations

from collections.abc import Callable

from benchmark.cli import evaluate, folder, inference, listing, measure, plan, run, tune

COMMANDS: dict[str, Callable[..., int]] = {
    "run": run.run_words,
    "plan": plan.print_plan,
    "evaluate": evaluate.evaluate_cells,
    "tune": tune.tune_methods,
    "export": inference.export_encoder,
    "features": inference.write_features,
    "report": folder.write_report,
    "status": folder.print_status,
    "serve": folder.serve_page,
    "resume": run.run_folder,
    "cancel": folder.cancel_jobs,
    "logs": folder.print_log,
    "methods": listing.print_methods,
    "ablations": listing.print_ablations,
    "datasets": listing.print_datasets,
    "presets": listing.print_presets,
    "augmentations": listing.print_augmentations,
    "published": listing.print_published,
    "check": measure.check_methods,
    "profile": measure.print_profile,
}
