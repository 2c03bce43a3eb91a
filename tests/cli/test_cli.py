"""The command line as a user meets it: `python -m benchmark ...` in a folder of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import PATIENCE, run_in_process, run_in_subprocess

from benchmark.backbones.resnets import is_resnet

COMMANDS = (
    "run",
    "plan",
    "evaluate",
    "export",
    "features",
    "tune",
    "report",
    "status",
    "resume",
    "cancel",
    "logs",
    "methods",
    "ablations",
    "datasets",
    "augmentations",
    "published",
    "check",
    "profile",
)
PLUGIN = '''"""Mine: A Paper (arXiv:0000.00000)."""

from dataclasses import dataclass
from typing import Literal

from methods.method import Method


class Mine(Method):
    @dataclass(frozen=True)
    class Config:
        weight: float = 1.0  # of the second term
        depth: int = 2  # layers of the head
        tied: bool = False  # one head for both
        mode: Literal["soft", "hard"] = "soft"  # of the assignment
'''


def bench(environment: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_in_process(list(words), environment, folder)


def check_refusal(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    """One line on stderr that says what was wrong, nothing else there, exit code 2."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.endswith("\n")
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert [part for part in parts if part not in result.stderr] == [], result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["rnu", "methods=simclr"], ["'rnu'", "did you mean 'run'", "ablations, augmentations, cancel, check"]),
        (["run", "methods=simlcr"], ["'simlcr'", "did you mean 'simclr'", "moco, moco_v3, nnclr"]),
        (["run", "methods=nnbyol"], ["'nnbyol': it is methods=byol byol.neighbours=1024"]),
        (["run", "methods=moco", "moco.quue=4"], ["'moco.quue'", "did you mean 'queue'", "head_dim, "]),
        (["run", "methods=simclr", "epochs=1\n2"], ["epochs=1 2", "a whole number is needed"]),
        (["run", "methods=simclr", "--epochs=3"], ["--epochs=3", "key=value, without dashes"]),
        (["plan", "methods=simclr", "--quik"], ["did you mean '--quick'?"]),
        (["run", "methods=simclr", "--json"], ["--json", "key=value, without dashes"]),
        (["profile", "methods=simclr", "--js"], ["--js", "key=value, without dashes"]),
        (
            ["run", "methods=simclr", "dataset=cifar10"],
            ["cifar10 not found in 'data'", "cifar-10-batches-py", "dataset.download=true", "dataset.root=DIR"],
        ),
        (["run", "methods=simclr", "device=xpu"], ["device=xpu", "cpu, cuda"]),
        (["plan", "methods=simclr", "device=gpu", "--quick"], ["device=gpu: allowed are auto, cpu, cuda, cuda:N"]),
        (["run", "methods=simclr", "weights=tim"], ["weights=tim: no such file", "did you mean 'timm'?"]),
        (["plan", "methods=famly:energy"], ["unknown family 'famly:energy'; did you mean 'family:energy'?"]),
        (["methods", "family:energi"], ["unknown family 'energi'; did you mean 'energy'?"]),
        (["plan", "methods=random", "epochs=2,3", "dataset.limit=-1"], ["dataset.limit=-1", "0 for all"]),
        (["report"], ["out=runs", "no such folder", "python -m benchmark run"]),
        (["status", "outt=runs"], ["outt=", "only out=FOLDER"]),
        (["methods", "mocoo"], ["'mocoo'", "did you mean 'moco'"]),
        (["check", "mocoo"], ["'mocoo'", "did you mean 'moco'"]),
        (["run", "methods=simclr", "lrr=0.1"], ["'lrr'", "did you mean 'learning_rate'"]),
        (["run", "--quick", "methods=simclr"], ["--quick; it is for `plan`"]),
        (["run", "methods=simclr", "checkpoint_every=-1"], ["checkpoint_every=-1", "at least 0"]),
        (["run", "methods=simclr", "launcher=slurm", "slurm.nodes=0"], ["slurm.nodes=0: at least 1"]),
        (["tune", "methods=simclr", "backbone=resnet1tt"], ["'resnet1tt'", "did you mean resnet14t"]),
        (["datasets", "cifar10"], ["datasets takes no words", "'cifar10'"]),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    environment: dict[str, str], tmp_path: Path, words: list[str], parts: list[str]
) -> None:
    check_refusal(bench(environment, tmp_path, *words), *parts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["report", "status", "serve"])
def test_a_folder_without_its_word_is_told_which(environment: dict[str, str], tmp_path: Path, command: str) -> None:
    (tmp_path / "mine").mkdir()
    check_refusal(
        bench(environment, tmp_path, command, "mine"), "'mine' is not key=value, a folder of cells is out=mine"
    )


def test_a_file_in_the_place_of_the_folder_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    check_refusal(bench(environment, tmp_path, "plan", "methods=simclr"), "out=runs", "a file is in the way")


@pytest.mark.parametrize("out", ["file/below.npz", "n" * 300 + ".npz"])
def test_a_place_that_cannot_be_written_to_is_found_before_all_else(
    environment: dict[str, str], tmp_path: Path, out: str
) -> None:
    """Before the data, which is not there, and the cell, which is not either."""
    (tmp_path / "file").touch()
    for words in (["run", "methods=simclr"], ["tune", "methods=simclr"], ["evaluate", "methods=random"]):
        result = bench(environment, tmp_path, *words, "dataset=cifar10", f"out={out}")
        check_refusal(result, f"out={out}: ", "in the way" if "file" in out else "cannot be written to")
    for words in (["features", "none", "photos"], ["export", "none"]):
        check_refusal(bench(environment, tmp_path, *words, f"out={out}"), f"out={out}: ")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize("words", [["report"], ["resume"], ["evaluate", "evaluations=knn"]])
def test_a_folder_of_cells_that_cannot_be_written_to_is_refused_before_they_are_read(
    environment: dict[str, str], tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench(environment, tmp_path, "run", "methods=pixels", "dataset.limit=60")
    (*_, cell) = (tmp_path / "runs").iterdir()
    if words == ["resume"]:
        (cell / "record.json").unlink()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")  # root may write anywhere

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    result = bench(environment, tmp_path, *words)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith("error: out=runs: ")
    assert result.stderr.endswith("it cannot be written to (Permission denied)\n")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_plan_s_rows_show_what_was_asked_of_a_method_and_not_how_presets_differ(
    environment: dict[str, str], tmp_path: Path
) -> None:
    plan = bench(environment, tmp_path, "plan", "methods=simclr,moco,barlow_twins", "moco.queue=64", "--quick")
    rows = [line.split()[1:] for line in plan.stdout.splitlines()[1:4]]
    assert rows == [["simclr", "new"], ["moco", "queue=64", "new"], ["barlow_twins", "new"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("methods=simclr backbone=resnet1tt", "unknown backbone 'resnet1tt'; did you mean resnet14t"),
        ("methods=mae mae.decoder_heads=5", "decoder_heads=5: decoder_dim must be a multiple of decoder_heads"),
        (
            "methods=mae backbone=resnet10t",
            "resnet10t has no tokens; vision transformers have, as vit_tiny_patch16_224",
        ),
        ("methods=simclr backbone=vit_tiny_patch16_224 stem=small view_size=96", "at most 64, not 96"),
        ("methods=frozen", "weights=timm or weights=FILE is needed"),
        ("methods=frozen weights=timm stem=small backbone=resnet10t", "use stem=native or auto"),
        ("methods=simclr batch_size=100000", "batch_size=100000: digits has 1213 images"),
        (
            "methods=wmse batch_size=32 wmse.head_dim=32",
            "32 images whitened at once in 32 dimensions have no full rank",
        ),
        ("methods=pcl epochs=5 pcl.warmup_epochs=5", "warmup_epochs=5 of 5 epochs: prototypes would never take part"),
        (
            "methods=pcl dataset.limit=40 batch_size=16 batch_norm=sync",
            "clusters=20+50: at most the 30 training images",
        ),
        ("methods=deepcluster deepcluster.prototypes=1214", "prototypes=1214: at most the 1213 training images"),
        ("methods=wmse wmse.head_hidden=16 wmse.head_dim=32", "head_hidden must be at least head_dim, or epsilon abov"),
        ("methods=moco_v3 moco_v3.freeze_patches=true", "freeze_patches=true needs a backbone with a patch embedding"),
        ("methods=simclr dataset.limit=10", "dataset.limit=10 is not allowed for dataset digits: give from 20"),
        ("methods=simclr dataset.limit=1349", "to 1348, or 0 for all"),
        ("methods=simclr dataset.limit=20 batch_size=11", "batch_size=11: digits has 10 images"),
        (
            "methods=moco backbone=resnet10t batch_size=32 microbatch=1 batch_norm=sync",
            "moco: microbatch=1 makes parts of one image of batch_size=32, whose batch norm would have one value a "
            "channel; microbatch=2 will do",
        ),
        ("methods=byol batch_size=3 microbatch=2", "byol: microbatch=2 makes parts of one image of batch_size=3"),
        ("methods=byol batch_size=16 batch_norm=split:16", "byol: batch_norm=split:16 makes groups of one image"),
        (
            "methods=simmim backbone=resnet10t view_size=32 simmim.cell=16 simmim.mask=0.8",
            "cell=8, a mask of at most 0.75",
        ),
        (
            "methods=simmim backbone=test_vit stem=native view_size=16",
            "smaller patches, as by stem=small or a larger view",
        ),
        ("methods=vae backbone=resnet10t view_size=128", "decoder is for 8 to 96"),
        ("methods=simclr batch_norm=split:7 batch_size=128", "batch_size=128 is not a multiple of 7"),
        ("methods=simclr out=/proc/nowhere", "out=/proc/nowhere: it cannot be written to"),
    ],
)
def test_a_plan_refuses_what_run_refuses(environment: dict[str, str], tmp_path: Path, words: str, message: str) -> None:
    """In the same line, though it looks at no images and measures nothing."""
    plan, run = (bench(environment, tmp_path, *command, *words.split()) for command in (["plan", "--quick"], ["run"]))
    assert (plan.returncode, run.returncode, plan.stdout, run.stdout) == (2, 2, "", "")
    assert plan.stderr.splitlines()[-1] == run.stderr.splitlines()[-1]
    assert message in plan.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_family_leaves_out_what_cannot_have_the_views_and_one_that_is_named_is_refused(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    words = ["view_size=128", "backbone=resnet10t", "epochs=1"]
    planned = bench(environment, tmp_path, "plan", "--quick", "methods=family:reconstruction", *words)
    assert planned.returncode == 0, planned.stderr
    assert "note: left out of methods=: autoencoder, denoising_autoencoder, vae: views of 128" in planned.stderr
    assert "note: autoencoder, denoising_autoencoder, mae and 2 more: view_size=128 is more than" in planned.stderr
    assert "left out of methods=: mae: pool=avg: resnet10t has no tokens" in planned.stderr
    assert "1 cell: 0 exist, 1 would run" in planned.stdout
    named = bench(environment, tmp_path, "plan", "--quick", "methods=family:reconstruction,vae", *words)
    assert named.returncode == 2
    assert "error: vae: views of 128 pixels" in named.stderr
    none = bench(environment, tmp_path, "run", "methods=family:energy", *words)
    assert none.returncode == 2
    assert "error: contrastive_divergence: views of 128 pixels" in none.stderr
    wrong_for_all = bench(
        environment, tmp_path, "run", "methods=family:clustering", "dataset.limit=20", "batch_size=64"
    )
    assert wrong_for_all.returncode == 2
    assert "error: deepcluster: batch_size=64: digits has" in wrong_for_all.stderr


def test_what_a_cluster_s_processes_cannot_share_is_refused_before_a_job_is_submitted(
    environment: dict[str, str], tmp_path: Path
) -> None:
    words = ("methods=simclr", "batch_size=256", "launcher=slurm", "slurm.gpus_per_node=3")
    for command in (["plan", "--quick"], ["run"]):
        result = bench(environment, tmp_path, *command, *words)
        check_refusal(result, "batch_size=256 is not a multiple of the 3 processes")
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    ("name", "after", "added", "message"),
    [
        (
            "of_import",
            '0000)."""\n',
            "import nowhere_at_all\n",
            "cannot be imported: ModuleNotFoundError: No module named",
        ),
        ("of_view", "(Method):\n", "    views = ('cropp',)\n", "unknown view 'cropp'; did you mean 'crop'?"),
        (
            "of_init",
            "assignment\n",
            "\n    def __init__(self, *told): raise ValueError('an odd width')\n",
            "an odd width",
        ),
        (
            "of_require",
            "assignment\n",
            "\n        def require(self, steps): ...\n",
            "require asks for 'steps'; allowed are",
        ),
    ],
)
def test_a_plan_refuses_a_plugin_that_nothing_could_train(
    environment: dict[str, str], tmp_path: Path, name: str, after: str, added: str, message: str
) -> None:
    """As `run` does, which has to import it."""
    (tmp_path / f"{name}.py").write_text(PLUGIN.replace(after, after + added))
    for command in (["plan", "--quick"], ["run"]):
        check_refusal(bench(environment, tmp_path, *command, f"methods={name}.py"), message)
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize("backbone", ["resnet10t", "resnet18", "resnet50d", "resnet50_gn", "resnet1tt", "test_resnet"])
def test_a_plan_knows_resnets_by_timm_s_source_and_asks_timm_of_all_else(backbone: str) -> None:
    import timm

    assert is_resnet(backbone) == (backbone in timm.list_models("resnet[0-9]*"))


def test_a_plan_lists_the_cells_and_creates_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    result = bench(
        environment, tmp_path, "plan", "methods=simclr,moco,pixels", "seeds=0,1,2", "moco.queue=256,512", "--quick"
    )
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[1] for row in rows[1:-1]] == ["simclr"] * 3 + ["moco"] * 6 + ["pixels"]
    assert len({row[0] for row in rows[1:-1]}) == 10, "a key a cell"
    assert all(row[-1] == "new" for row in rows[1:-1])
    assert any({"seed=1", "queue=256"} <= set(row) for row in rows)
    assert result.stdout.endswith("10 cells: 0 exist, 10 would run\n")
    assert result.stderr == "note: seeds does not apply to pixels: one cell\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_prints_examples(environment: dict[str, str], tmp_path: Path, command: str | None) -> None:
    result = bench(environment, tmp_path, *([command] if command else []), "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"python -m benchmark {command or 'run'}" in result.stdout.split("examples:")[1]
    if command is None:
        assert [name for name in COMMANDS if f"    {name}" not in result.stdout] == []
    if command in ("run", "plan", "profile"):
        keys = (
            "seeds=0",
            "dataset.root=data",
            "out=runs",
            "moco.queue=4096",
            "(sgd, adamw, lars, lars_fb, larc)",
        )
        for key in keys:
            assert key in result.stdout


def test_what_does_not_train_does_not_import_torch(environment: dict[str, str], tmp_path: Path) -> None:
    script = """
import runpy, sys
def list_loaded(*words):
    sys.argv = ["benchmark", *words]
    try:
        runpy.run_module("benchmark", run_name="__main__", alter_sys=True)
    except SystemExit as stopped:
        assert not stopped.code, (words, stopped.code)
    return {"torch", "pandas", "numpy", "timm"} & set(sys.modules)
for words in ("--help", "run --help", "plan methods=simclr,moco --quick", "status out=.", "methods", "datasets",
              "augmentations"):
    assert not list_loaded(*words.split()), (words, list_loaded("--help"))
assert "torch" not in list_loaded("report", "out=.")
"""
    call = [sys.executable, "-c", script]
    result = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    assert "no cells below" in result.stdout
    assert "No records" in result.stdout


def test_lists_say_what_there_is(environment: dict[str, str], tmp_path: Path) -> None:
    moco = bench(environment, tmp_path, "methods", "moco").stdout
    assert moco.startswith("moco: MoCo v1 and v2")
    assert "moco.queue=65536  (whole number) K, the keys in the queue" in moco
    assert "moco.head=mlp  (mlp, linear, none)" in moco
    assert "simclr" not in moco
    energy = bench(environment, tmp_path, "methods", "family:energy").stdout
    assert re.findall(r"^(\w+): ", energy, re.MULTILINE) == ["contrastive_divergence", "gan"]
    assert "cifar10" in bench(environment, tmp_path, "datasets").stdout
    augmentations = bench(environment, tmp_path, "augmentations").stdout
    assert "simclr_cifar" in augmentations
    assert "augmentation=crop+flip+colour" in augmentations


PROFILED = (
    "backbone=test_resnet",
    "dataset.limit=60",
    "view_size=16",
    "batch_size=8",
    "device=cpu",
    "moco.batch_norm=sync",
)


def test_profile_times_each_method_and_records_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    result = bench(environment, tmp_path, "profile", "methods=random,moco,simclr", *PROFILED)
    assert result.returncode == 0, result.stderr
    header, moco, simclr = (re.split("  +", line.strip()) for line in result.stdout.splitlines()[:3])
    parts = ["data", "augmentation", "forward", "loss", "backward", "optimiser", "hooks"]
    first = header.index(parts[0])
    assert header[first : first + len(parts)] == parts
    for name, row in (("moco", moco), ("simclr", simclr)):
        cells = dict(zip(header, row, strict=True))
        assert cells["method"] == name
        assert sum(float(cells[part].rstrip("%")) for part in parts) == pytest.approx(100, abs=0.5)
        assert re.fullmatch(r"\d+ \(\d+ to \d+\)", cells["images/s"]), "the median and the quartiles"
        assert re.fullmatch(r"\d\.\d\d \(\d\.\d\d to \d\.\d\d\)", cells["step/encoder"])
    assert list(tmp_path.iterdir()) == []


def test_profile_says_the_same_to_programs(environment: dict[str, str], tmp_path: Path) -> None:
    result = bench(
        environment, tmp_path, "profile", "methods=simclr,moco", "--json", "threads=1", "precision=fp32", *PROFILED
    )
    assert result.returncode == 0, result.stderr
    profile = json.loads(result.stdout)
    assert profile["threads"] == 1
    assert {"device", "versions", "commit"} <= set(profile)
    for name, cell in zip(("simclr", "moco"), profile["cells"], strict=True):
        assert (cell["method"], cell["settings"]["method"], cell["precision"]) == (name, name, "fp32")
        median, low, high = cell["images_per_second"]
        assert low <= median <= high
        assert {name: len(seconds) for name, seconds in cell["seconds"].items()} == dict.fromkeys(cell["seconds"], 30)
        whole, _ = cell["seconds"].pop("step"), cell["seconds"].pop("encoder")
        assert sum(map(sum, cell["seconds"].values())) == pytest.approx(sum(whole), rel=0.1), "the parts are all of it"
        assert cell["state_bytes"] > 4 * 128 * cell["settings"]["options"].get("queue", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_plugin_in_the_current_folder_by_its_dotted_path(environment: dict[str, str], tmp_path: Path) -> None:
    package = tmp_path / "my_pkg"
    package.mkdir()
    (package / "my_method.py").write_text(PLUGIN)
    words = ["my_method.weight=0.5,2", "depth=3", "my_method.tied=true", "my_method.mode=hard,soft"]
    result = run_in_subprocess(["plan", "methods=my_pkg.my_method,simclr", *words, "--quick"], environment, tmp_path)
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[1] for row in rows[1:-1]] == ["my_pkg.my_method"] * 4 + ["simclr"]
    assert {"weight=2.0", "mode=hard"} <= set(rows[3])
    assert result.stderr == "note: depth does not apply to simclr: it has no such option, one cell\n"
    result = run_in_subprocess(["plan", "methods=my_pkg.my_method", "my_method.mode=sofd"], environment, tmp_path)
    check_refusal(result, "my_method.mode=sofd", "soft, hard", "did you mean 'soft'")


def test_installed_plugins_are_found_and_a_broken_one_breaks_nothing_else(
    environment: dict[str, str], tmp_path: Path
) -> None:
    site = tmp_path / "site"
    info = site / "my_plugins-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugins\nVersion: 1.0\n")
    names = {"mine": "my_mine", "typo": "my_typo", "empty": "my_empty", "gone": "my_gone"}
    lines = [f"{name} = {module}\n" for name, module in names.items()]
    (info / "entry_points.txt").write_text("[contrastive_benchmark.methods]\n" + "".join(lines))
    (site / "my_mine.py").write_text(PLUGIN)
    (site / "my_typo.py").write_text("class Mine(Method:\n")
    (site / "my_empty.py").write_text('"""Nothing here."""\n')
    installed = environment | {"PYTHONPATH": os.pathsep.join([str(site), environment["PYTHONPATH"]])}

    methods = bench(installed, tmp_path, "methods")
    assert (methods.returncode, methods.stderr) == (1, "")
    by_name = {block.split(":")[0]: block for block in methods.stdout.split("\n\n")}
    assert "Mine: A Paper (arXiv:0000.00000)" in by_name["mine"]
    assert "mine.depth=2  (whole number) layers of the head" in by_name["mine"]
    assert "simclr.temperature" in by_name["simclr"]
    assert "SyntaxError" in by_name["typo"]
    assert "my_typo.py" in by_name["typo"]
    assert "one class derived from Method is needed, 0 found" in by_name["empty"]
    assert "'my_gone'" in by_name["gone"]

    plan = bench(installed, tmp_path, "plan", "methods=mine,simclr", "mine.weight=1,2", "--quick")
    assert plan.returncode == 0, plan.stderr
    assert plan.stdout.endswith("3 cells: 0 exist, 3 would run\n")
    check_refusal(bench(installed, tmp_path, "plan", "methods=simclr,typo"), "'typo'", "my_typo.py", "SyntaxError")


def test_what_is_missing_in_a_folder_is_resumed_from_the_folder_alone(
    environment: dict[str, str], tmp_path: Path
) -> None:
    words = ("methods=random", "dataset.limit=60", "view_size=16", "backbone=test_resnet", "seeds=0,1", "device=cpu")
    assert bench(environment, tmp_path, "run", *words).returncode == 0
    records = sorted(tmp_path.glob("runs/*/record.json"))
    before = [json.loads(path.read_text())["metrics"] for path in records]
    records[0].unlink()
    result = bench(environment, tmp_path, "resume", "out=runs", "device=cpu")
    assert result.returncode == 0, result.stderr
    assert [json.loads(path.read_text())["metrics"] for path in records] == before
    rows = [line.split() for line in bench(environment, tmp_path, "status").stdout.splitlines()]
    assert sorted(row[1:] for row in rows if row[0].startswith("random-")) == [
        ["seed=0", "finished"],
        ["seed=1", "finished"],
    ], "which cell has which seed"
    check_refusal(bench(environment, tmp_path, "resume", "methods=simclr"), "methods=", "the cells are those of out=")
    check_refusal(bench(environment, tmp_path, "resume", "--wait"), "--wait", "launcher=slurm")
    logs = bench(environment, tmp_path, "logs", records[0].parent.name)
    assert "no job of it has written anything" in logs.stdout
    check_refusal(bench(environment, tmp_path, "logs", "randum-digits-0"), "unknown cell", "random-digits-")
    assert "0 jobs cancelled" in bench(environment, tmp_path, "cancel").stdout


def test_plan_shows_the_script_of_the_jobs(environment: dict[str, str], tmp_path: Path) -> None:
    words = ("launcher=slurm", "slurm.partition=gpu", "slurm.gpus_per_node=1", "slurm.setup=module load cuda")
    words += ("seeds=0,1,2,3", "slurm.cells_per_job=2", "--quick")
    result = bench(environment, tmp_path, "plan", "methods=simclr", *words)
    assert result.returncode == 0, result.stderr
    for line in ("--array=0-1%", "--partition=gpu", "--gpus-per-node=1", "module load cuda", "--requeue"):
        assert line in result.stdout
    assert list(tmp_path.iterdir()) == []
    check_refusal(bench(environment, tmp_path, "run", "methods=simclr", "slurm.nodes=0"), "slurm.nodes", "at least 1")
    check_refusal(bench(environment, tmp_path, "run", "methods=simclr", "slurm.partion=gpu"), "did you mean")
