"""The commands, their examples and their help: what a user reads before anything runs."""

from __future__ import annotations

import argparse
import platform
from typing import Any, NoReturn

from benchmark.errors import UsageError, nearest, unknown

COMMANDS = {
    "run": "train, evaluate and record every missing cell, then print the table",
    "plan": "list the cells of the same words: which exist, which would run and what they will cost; trains none",
    "evaluate": "measure finished cells, or any pretrained backbone, by more than the record holds",
    "tune": "search every method's settings by validation accuracy, with one budget for all; then test what was chosen",
    "export": "a finished cell's encoder for other code: as timm loads it, or as a program with its graph",
    "features": "a table of features of any images, by a finished cell's encoder",
    "report": "the table of all records below a folder, and which can be told apart; writes report/",
    "status": "every cell below a folder: finished, running, interrupted, failed; and its job on a cluster",
    "serve": "a page in the browser with every cell, its curves while it trains, and a link to the report",
    "resume": "run what is missing below a folder, from the folder alone",
    "cancel": "cancel the cluster's jobs of a folder",
    "logs": "what the job, or the process, of a cell wrote last",
    "methods": "what can be compared: paper, options, defaults",
    "ablations": "the named ablations: what they vary, what they hold fixed",
    "datasets": "the datasets and where they come from",
    "presets": "named settings for a dataset, and what they set",
    "augmentations": "the augmentation policies and the pieces that make new ones",
    "published": "the published protocols that like=NAME sets, their numbers, and what cannot be had alike",
    "check": "test a method, ours or a plugin, against the contract",
    "profile": "time training steps of the same words against their encoder alone; records nothing",
}
FLAGS = (
    ("--quick", "plan", "forecast no cost, which takes some measured steps of each shape of cell"),
    ("--json", "profile", "print all numbers, step by step, as JSON"),
    ("--wait", "run", "with launcher=slurm: follow the jobs to their end"),
    ("--wait", "resume", "with launcher=slurm: follow the jobs to their end"),
)
EXAMPLES = {
    "": "run methods=simclr,moco\nplan methods=simclr,moco temperature=0.1,0.2,0.5 seeds=0,1,2\nreport out=runs",
    "run": """run methods=simclr,moco
run methods=random,pixels,simclr,moco seeds=0,1,2
run methods=simclr,moco seeds=0,1,2 moco.queue=4096,65536      (3 SimCLR and 6 MoCo cells)
run methods=simclr dataset=cifar10 dataset.root=data dataset.download=true batch_size=1024 microbatch=256
run like=simclr-dkobak-100 dataset.root=data seeds=0,1,2          (a published protocol; report compares the numbers)
run methods=my_pkg.my_method                                    (a plugin, by its dotted module path)
run methods=my_method.py,simclr                                 (a plugin, in a file of the folder that one is in)
run @study.txt seeds=0-4                                        (words from a file, one a line; seeds 0 to 4)""",
    "plan": "plan methods=simclr,moco temperature=0.1,0.2,0.5 seeds=0,1,2\nplan methods=simclr,moco --quick",
    "evaluate": """evaluate
evaluate out=runs evaluations=knn,heads cells=simclr-digits-0123456789
evaluate transfer=cifar100,svhn dataset.root=data
evaluate weights=timm backbone=resnet18 dataset=digits           (timm's pretrained weights, recorded as any cell)
evaluate weights=model.safetensors backbone=resnet18 dataset=cifar10 dataset.root=data""",
    "export": """export runs/simclr-digits-0123456789 out=encoder
export runs/simclr-digits-0123456789 out=encoder format=program,onnx
export runs/simclr-digits-0123456789 out=encoder push=my-team/my-encoder""",
    "features": """features runs/simclr-digits-0123456789 my/photos out=features.parquet
features runs/simclr-digits-0123456789 digits out=features.npz head=true
features runs/simclr-digits-0123456789 paths.txt out=features.parquet     (a text with a path a line)""",
    "report": "report\nreport out=runs reference=simclr\nreport out=runs wandb=my-team/contrastive-benchmark",
    "tune": """tune methods=simclr,moco,swav trials=16
tune methods=simclr,moco temperature=0.2 moco.queue=256,512      (one temperature for all; queues to try)
tune methods=random,simclr sampler=random seeds=1,2,3
tune methods=family:momentum launcher=local at_once=4""",
    "status": "status\nstatus out=runs",
    "serve": "serve\nserve out=runs port=0                                             (a free port)",
    "resume": "resume out=runs\nresume out=runs launcher=slurm slurm.partition=gpu\nresume out=runs cluster=gpu",
    "cancel": "cancel out=runs",
    "logs": "logs simclr-digits-0123456789 out=runs",
    "methods": "methods\nmethods moco",
    "ablations": "ablations",
    "datasets": "datasets",
    "presets": "presets\npresets cifar",
    "augmentations": "augmentations",
    "published": "published\npublished simclr-dkobak-100",
    "check": "check simclr\ncheck my_pkg.my_method",
    "profile": "profile methods=simclr,moco\nprofile methods=simclr,moco,swav batch_size=512 device=cuda --json",
}


WITH_KEYS = ("run", "plan", "profile", "evaluate", "tune")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Commands and their words. A typo in a command is bad input like any other."""

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            unread = message.rpartition(": ")[2] if message.startswith("unrecognized") else ""
            hint = nearest(unread, [flag for flag, _, _ in FLAGS]) if unread.startswith("--") else ""
            owners = [f"`{command}`" for flag, command, _ in FLAGS if flag == unread]
            hint = f"; it is for {' and '.join(owners)}" if owners else hint
            raise UsageError(f"{message}{hint}; words are key=value, without dashes")

    parser = Parser(
        allow_abbrev=False,
        prog="python -m benchmark",
        description="Compare contrastive visual representation learning methods under one protocol.",
        epilog=_examples(""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_versions() if "--version" in arguments else "")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    word = next((a for a in arguments if not a.startswith("-")), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=_examples(name)
            + (_keys() if name in ("run", "plan", "profile") and word == name else "")
            + (_evaluations() if name == word == "evaluate" else "")
            + (_tuning() if name == word == "tune" else "")
            + (_inference(name) if name == word and name in ("export", "features") else ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        for flag, owner, help in FLAGS:
            if name == owner:
                command.add_argument(flag, action="store_true", help=help)
        command.add_argument("words", nargs="*", metavar="key=value" if name in WITH_KEYS else "word")
    if word is not None and word not in COMMANDS:
        raise unknown("command", word, COMMANDS)
    # Flags go last: argparse takes no words behind them.
    flags = {flag for flag, _, _ in FLAGS}
    return parser.parse_args(sorted(arguments, key=flags.__contains__) or ["--help"])


def _versions() -> str:
    """This project, and what numbers depend on."""
    from importlib.metadata import PackageNotFoundError, version

    def of(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    numbers = ", ".join(f"{package} {of(package)}" for package in ("torch", "torchvision", "timm"))
    return f"contrastive-benchmark {of('contrastive-benchmark')} (Python {platform.python_version()}, {numbers})"


def _examples(command: str) -> str:
    return "examples:\n" + "\n".join(f"  python -m benchmark {line}" for line in EXAMPLES[command].splitlines())


def _evaluations() -> str:
    """The words that only `evaluate` has, and what it can measure."""
    from benchmark.words import evaluate_words

    rows = [
        ("out=runs", "the folder whose finished cells are evaluated; what they have already is not done again"),
        ("cells=NAME,NAME", "only these of its cells, by the names that `status` lists"),
        ("evaluations=NAME,NAME", "only these; where it is not given, all that need not be named:"),
        *((f"  {name}", text) for name, text in evaluate_words.EVALUATIONS.items()),
        ("", "all but tokens read the feature that the backbone pools: of most transformers the class token"),
        ("transfer=NAME,NAME", "datasets, looked for in dataset.root=data, and fetched with dataset.download=true"),
        ("weights=, backbone=, ...", "words as of `run`: their cells are run if they are missing, and then evaluated;"),
        ("", "without methods= it is a backbone as it comes: weights=timm, or a file of its weights"),
    ]
    return "\n\nwords (device= and threads= as for `run`):\n" + "\n".join(f"  {a:<32}{b}" for a, b in rows)


def _tuning() -> str:
    """The words that only `tune` has."""
    import dataclasses

    from benchmark.settings import schema
    from benchmark.words import tune_words

    meanings = schema.read_help(tune_words.Options)
    rows = [(f"{field.name}={field.default}", meanings[field.name]) for field in dataclasses.fields(tune_words.Options)]
    rows += [
        ("seeds=1,2,3,4,5", "of the cells of what was chosen: seeds that no trial had"),
        ("KEY=VALUE", "words as of `run`: one value holds for every trial, several are what may be tried"),
    ]
    return "\n\nwords:\n" + "\n".join(f"  {a:<32}{b}" for a, b in rows)


def _inference(command: str) -> str:
    """The words of `export` or of `features`."""
    from benchmark.words import inference_words

    rows = [("CELL", "a finished cell's folder, or its name or key, looked for in runs/")]
    if command == "export":
        rows += [("out=DIR", "a folder that is not there yet"), ("format=NAME,NAME", "written too:")]
        rows += [(f"  {name}", what) for name, what in inference_words.FORMATS.items()]
        rows += [("push=ENTITY/NAME", "and to the Hugging Face Hub, as the user that `hf auth login` made known")]
    else:
        rows += [
            ("IMAGES", "a folder (labels are its first folders), a dataset's name, or a text with a path a line"),
            ("out=FILE", "a table that ends in .parquet or .npz: name, label where there is one, features"),
            ("head=true", "the projection head's output too, as a column head"),
            ("encoder=teacher", "its momentum copy in place of the student, where the method has one"),
            (
                "tokens=KIND",
                "of a vision transformer: token, token4, token_avg, avg or avg4, in place of what it pools",
            ),
            ("dataset.root=data", "where a dataset by name lies; fetched with dataset.download=true"),
        ]
    device = "" if command == "export" else "device=, "
    return f"\n\nwords ({device}threads= and trust= as for `run`):\n" + "\n".join(f"  {a:<32}{b}" for a, b in rows)


def _keys() -> str:
    """Every key with its default and its meaning, from the dataclasses that declare them."""
    # Here, because the help of the other commands, and of none, need not wait for them.
    import dataclasses
    import typing

    from benchmark.data.catalogue import Dataset
    from benchmark.settings import schema
    from benchmark.settings.cell import Settings
    from benchmark.settings.runtime import Runtime, Slurm
    from benchmark.settings.values import describe_type

    def lines(cls: type[Any], prefix: str = "") -> list[str]:
        texts, hints = schema.read_help(cls), typing.get_type_hints(cls)
        plural = {single: many for many, single in schema.PLURAL.items()}
        rows = []
        for field in dataclasses.fields(cls):
            if field.default is not dataclasses.MISSING and field.name not in ("method", "extra", *schema.UNSPOKEN):
                name = plural.get(prefix + field.name, prefix + field.name)
                choices = f" ({describe_type(hints[field.name])})" if "Literal" in str(hints[field.name]) else ""
                rows.append(f"  {name}={field.default}".ljust(33) + " " + texts[field.name] + choices)
        return rows

    return "\n".join(
        [
            "\n\nsettings (several values, joined by commas, make an axis; some datasets have presets):",
            "  methods=NAME,NAME".ljust(34) + "needed; names, plugin entry points or dotted module paths",
            "  ablation=NAME".ljust(34) + "its axes, over what is not given here; `python -m benchmark ablations`",
            *lines(Settings),
            *lines(Dataset, "dataset."),
            "options of methods (see `methods`): moco.queue=4096; for all that have it, once: temperature=0.2;",
            "a setting for one method only: moco.learning_rate=0.03; twice what it is without the word: epochs=x2",
            "\nhow to run (one value; does not change which cell it is):",
            *lines(Runtime),
            "\nwhat jobs ask a cluster for, with launcher=slurm:",
            *lines(Slurm, "slurm."),
            "  slurm.extra.KEY=VALUE".ljust(34) + "any other long option of sbatch, such as reservation",
            "  cluster=NAME".ljust(34) + "such words from a file of yours, clusters/NAME.txt, one a line",
        ]
    )
