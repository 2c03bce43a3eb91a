"""The contract of DESIGN section 4 on every registered method, and that the checks find what they are for."""

import typing
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from commandline import PATIENCE

import methods
from benchmark.contract import check, short_training, two_processes
from benchmark.contract.comparison import Violation
from benchmark.contract.learning import check_learning
from benchmark.settings import schema
from benchmark.training.recorded.step import Recording

TRAINED = [name for name in methods.names() if methods.describe(name).trains]
REFERENCES = [name for name in methods.names() if name not in TRAINED]


# They wait for a decomposition, or `one_hot` on a CPU.
NOT_RECORDED = {"mmcr", "wmse", "supcon"}


# A run that was stopped and ends in the same bytes has been rerun bit for bit.
TITLES = [title for title, function in check.CHECKS.items() if function not in (check.check_rerun, check_learning)]
FIRST = ["simclr", "instdisc", "moco", "swav"]  # one of each family; the checks that take long see the others as `slow`
OTHERS = [name for name in TRAINED if name not in FIRST]


@pytest.mark.parametrize("title", TITLES)  # varies fastest: a method's checks share a training
@pytest.mark.parametrize("name", TRAINED)
def test_every_method_keeps_the_contract(name: str, title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replays, replay = [], Recording.replay
    monkeypatch.setattr(Recording, "replay", lambda *words: replays.append(words) or replay(*words))
    check.CHECKS[title](name)
    if title == "recorded steps are the usual ones":
        assert bool(replays) == (name not in NOT_RECORDED)


# To tell images from what a small generator makes says little of which digit they are: docs/results/digits_all.md.
SHOWN = [name for name in OTHERS if name != "gan"]


@pytest.mark.parametrize("name", [*FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in SHOWN)])
def test_every_method_learns(name: str) -> None:
    check_learning(name)


# State and views that the preset's settings leave out.
VARIANTS = {
    "simclr with small crops": ("simclr", "augmentation=crop+2x8"),
    "moco, symmetric, with small crops": ("moco", "moco.symmetric=true", "augmentation=crop+1x8"),
    "instdisc by noise contrast": ("instdisc", "instdisc.loss=nce"),
    "pirl by noise contrast": ("pirl", "pirl.loss=nce"),
    "swav with a queue and small crops": ("swav", "swav.queue=50", "swav.queue_start=0", "augmentation=crop+2x8"),
    "byol with neighbours": ("byol", "byol.neighbours=40", "augmentation=crop+1x8"),
    "simsiam with neighbours": ("simsiam", "simsiam.neighbours=40"),
    "lejepa with crops of two sizes": ("lejepa", "augmentation=crop+1x16@.3-1+2x8"),
    "wmse with four views": ("wmse", "wmse.passes=2", "wmse.whitened=18", "augmentation=crop+2x16@.2-1"),
    "simmim, a token in place of patches": ("simmim", "backbone=test_vit", "stem=small"),
    "dino, its temperature growing, with small crops": (
        "dino",
        "dino.teacher_warmup=3",
        "dino.norm_last_layer=false",
        "augmentation=crop+2x8@.2-.5",
    ),
    "ibot, its temperature growing, with small crops": (
        "ibot",
        "ibot.teacher_warmup=3",
        "ibot.head_norm=true",
        "pool=avg",
        "augmentation=crop+2x8@.2-.5",
    ),
    "deep infomax with a prior": ("deep_infomax", "deep_infomax.prior=0.1"),
    "pcl from the first epoch": ("pcl", "pcl.warmup_epochs=0", "pcl.negative_prototypes=8"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_keep_the_contract(variant: str) -> None:
    name, *more = VARIANTS[variant]
    check.check_resume(name, *more)
    check.check_micro_batches(name, *more)
    check.check_recording(name, *more)


@pytest.mark.parametrize("name", REFERENCES)
def test_reference_points_make_features(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.check(name)
    assert "ok" in capsys.readouterr().out


@pytest.mark.parametrize("name", methods.names())
def test_the_described_options_are_the_class_s_own(name: str) -> None:
    """The command line reads options from the source; the class must have the same."""
    described, method = methods.describe(name), methods.load(name)
    assert described.Config() == described.Config(**vars(method.Config()))
    assert described.trains == method.trains
    assert described.supervised == method.supervised
    assert described.views == method.views
    assert (described.multicrop, described.sized) == (method.multicrop, method.sized)
    assert (described.ignores, described.recommends) == (method.ignores, method.recommends)
    assert (described.counts, described.read_with) == (method.counts, method.read_with)
    assert all(described.help[option] for option in vars(method.Config())), "every option has a comment behind it"


FEWER = {"queue_start": "0", "chains": "8"}  # of which one more makes no difference to so short a training


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name in TRAINED for option in methods.describe(name).read_with]
)
def test_an_option_makes_a_difference_with_what_it_is_said_to_be_read_with_alone(name: str, option: str) -> None:
    other, *values = methods.describe(name).read_with[option]
    value = getattr(methods.describe(name).Config(), option)
    every = [str(one).lower() for one in typing.get_args(schema.list_options(name)[other]) or (False, True)]
    having, lacking = (values, [one for one in every if one not in values]) if values else (["7"], ["0"])
    changed = FEWER.get(option) or (str(not value).lower() if isinstance(value, bool) else f"{value + 1:g}")

    def changes_numbers(word: str) -> bool:
        words = f"{name}.{other}={word}", "epochs=1"
        cells = [short_training.settings(name, *words, *more) for more in ([], [f"{name}.{option}={changed}"])]
        first, second = (short_training.train_briefly(cell).losses for cell in cells)
        return first != second

    assert [word for word in (*having, *lacking) if changes_numbers(word)] == having


BROKEN = '''"""A method with one fault."""

import torch
from methods.method import Method
from methods.parts.heads import normalise
from methods.parts.losses import nt_xent
from torch import cat, nn


class Broken(Method):
    def __init__(self, config, encoder, width, images):
        super().__init__(config, encoder, width, images)
        self.head = nn.Linear(width, 8)
        {init}

    def forward(self, batch, at):
        {forward}
        z1, z2 = normalise(self.head(self.encoder(cat(batch.views)))).chunk(2)
        return {{"z1": z1, "z2": z2}}

    def loss(self, rows, at):
        {loss}
        return {{"loss": nt_xent(rows["z1"], rows["z2"], 0.5)}}

    def after_step(self, rows, at):
        {after}
'''
FAULTS: dict[str, tuple[dict[str, str], Callable[[str], None], str]] = {
    "state in a plain attribute": (
        {"init": "self.centre = torch.zeros(8)", "after": "self.centre = rows['z1'].mean(0)"},
        check.check_state,
        "centre",
    ),
    "state that no checkpoint holds": (
        {
            "init": "self.register_buffer('total', torch.zeros(()), persistent=False)",
            "loss": "rows = {k: r * (1 + self.total) for k, r in rows.items()}",
            "after": "self.total += rows['z1'].mean()",
        },
        check.check_resume,
        "a resumed run differs",
    ),
    "a memory that the loss writes": (
        {
            "init": "self.register_buffer('queue', torch.zeros(4, 8))",
            "loss": "self.queue.copy_(rows['z1'][:4].detach())",
        },
        check.check_reads,
        "writes queue",
    ),
    "a parameter that nothing uses": ({"init": "self.idle = nn.Linear(3, 3)"}, check.check_gradients, "idle"),
    "statistics of the slice in forward": (
        {"forward": "batch = batch._replace(views=[v - v.mean() for v in batch.views])"},
        check.check_micro_batches,
        "micro-batches: the loss of step 0",
    ),
    "chance without a seed": (
        {"forward": "batch = batch._replace(views=[v * __import__('random').random() for v in batch.views])"},
        check.check_rerun,
        "a rerun differs",
    ),
    "a phase that hides the epoch": (
        {
            "init": "type(self).phase = lambda self, at: at.epoch < 99",
            "loss": "rows = {k: r * (1 + at.epoch) for k, r in rows.items()}",
        },
        check.check_recording,
        "a recorded step differs in the loss of step 2",
    ),
    "a number that the first step computed": (
        {
            "init": "from methods.parts.chance import draw; type(self).draw = staticmethod(draw)",
            "loss": "z = rows['z1'].detach(); share = self.draw(lambda: z.mean(), z.device); "
            "rows = {k: r * share for k, r in rows.items()}",
        },
        check.check_recording,
        "a recorded step differs",
    ),
    "no gradient reaches the encoder": (
        {
            "forward": "batch = batch._replace(views=[v.detach() for v in batch.views])",
            "init": "self.encoder.requires_grad_(False); self.head.weight.data.zero_()",
        },
        lambda name: check_learning(name, epochs=2),
        "before",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, checked, message = FAULTS[fault]
    parts = {"init": "pass", "forward": "pass", "loss": "pass", "after": "pass"} | code
    name = "broken_" + "_".join(fault.split())
    (tmp_path / "faulty").mkdir()
    (tmp_path / "faulty" / f"{name}.py").write_text(BROKEN.format(**parts))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "faulty", raising=False)
    with pytest.raises(Violation, match=message):
        checked(f"faulty.{name}")


def test_an_error_is_said_once_with_the_line_of_the_method(
    write_plugin: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {"init": "pass", "forward": "self.no_such_head", "loss": "pass", "after": "pass"}
    name = write_plugin(BROKEN.format(**parts))
    few = ("gradients where they belong", "forward and loss only read")
    monkeypatch.setattr(check, "CHECKS", {title: check.CHECKS[title] for title in few})
    monkeypatch.setattr(check, "check_two_processes", check.check_state)
    assert not check.check(name)
    _, first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("  FAIL  gradients where they belong: AttributeError: ")
    assert first.endswith("of mine.py: self.no_such_head)")
    assert second == "  FAIL  forward and loss only read: the same"
    assert third.startswith("  ok  ")


LOCAL_LOSS = """ranks = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        rows = {name: row[: len(row) // ranks] for name, row in rows.items()}"""


@pytest.mark.timeout(2 * PATIENCE)
@pytest.mark.parametrize(
    ("names", "variants"),
    [(FIRST, tuple(two_processes.VARIANTS)), pytest.param(OTHERS, ["whole batches"], marks=pytest.mark.slow)],
    ids=["first", "others"],
)
def test_two_processes_agree_with_one(
    names: list[str],
    variants: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One pair of processes for all methods: two pairs at once would wait for each other's turns on two cores.

    Micro-batches on two processes are seen for one method of each family: all have them checked in one process, and
    what joins the two is the engine's.

    The last is one whose loss sees one process's rows only, the field's most common silent error: it has to be found.
    """
    code = BROKEN.format(init="pass", forward="pass", loss=LOCAL_LOSS, after="pass")
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart" / "local_loss.py").write_text(code.replace("import torch\n", "import torch.distributed\n", 1))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    problems = two_processes.compare_processes([*names, "apart.local_loss"], variants, 2 * PATIENCE)
    assert "Warning" not in capfd.readouterr().err, "a command's output holds what we say"
    assert "two processes with whole batches: the loss of step 0" in str(problems.pop("apart.local_loss"))
    assert not {name: problem for name, problem in problems.items() if problem}
