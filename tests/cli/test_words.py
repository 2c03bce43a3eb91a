"""Words to cells: what a user types, and which cells come of it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import PATIENCE

import methods
from benchmark.errors import UsageError
from benchmark.settings import address, presets, schema
from benchmark.settings.cell import Settings
from benchmark.words import cell_words, tune_words
from benchmark.words.cell_words import Request, read
from benchmark.words.runtime_words import read_out

ROOT = Path(__file__).parents[2]
PLUGIN = '''"""A plugin: its paper."""

from dataclasses import dataclass
from typing import Literal

from methods.method import Method


class Mine(Method):
    views: tuple[str, ...] = ("crop",)
    ignores: tuple[str, ...] = ("stem",)

    @dataclass(frozen=True)
    class Config:
        weight: float = 1  # of the second term
        depth: int = 2  # layers
        tied: bool = False  # share the weights
        mode: Literal["soft", "hard"] = "soft"  # of the assignment

        def __post_init__(self) -> None:
            if self.depth < 1:
                raise ValueError("depth must be at least 1")
'''


def read_cells(words: str) -> list[Settings]:
    return read(words.split()).cells


def read_cell(words: str) -> Settings:
    matches = read_cells(words)
    assert len(matches) == 1
    return matches[0]


def compute_key(words: str) -> str:
    return address.hash_cell(read_cell(words))


def read_refusal(words: str) -> str:
    with pytest.raises(UsageError) as error:
        read(words.split())
    return str(error.value)


def select_cells(request: Request, method: str) -> list[Settings]:
    return [cell for cell in request.cells if cell.method == method]


def test_a_method_s_option_multiplies_only_its_own_cells() -> None:
    cells = read_cells("methods=simclr,moco seeds=0,1,2 moco.queue=4096,65536")
    assert [c.method for c in cells] == ["simclr"] * 3 + ["moco"] * 6
    assert [(c.seed, c.options["queue"]) for c in cells[3:]] == [(s, q) for s in (0, 1, 2) for q in (4096, 65536)]
    assert len({address.hash_cell(c) for c in cells}) == 9


def test_all_methods_or_a_family_s() -> None:
    every = [cell.method for cell in read_cells("methods=all")]
    assert sorted(every) == sorted(name for name in methods.names() if name != "frozen"), (
        "which is what its weights are"
    )
    clustering = [cell.method for cell in read_cells("methods=family:clustering")]
    assert clustering == ["deepcluster", "pcl", "swav"]
    at = every.index("deepcluster")
    assert every[at : at + 3] == clustering, "families stand together"
    assert [cell.method for cell in read_cells("methods=pcl,family:clustering,random")] == [
        "pcl",
        "deepcluster",
        "swav",
        "random",
    ]
    with pytest.raises(
        UsageError, match=r"unknown family 'clusterin'; did you mean 'clustering'\? \(allowed: end_to_end"
    ):
        read(["methods=family:clusterin"])


def test_a_shared_option_goes_to_every_method_that_has_it() -> None:
    request = read(["methods=simclr,moco,random", "temperature=0.1,0.5", "head=linear", "head_dim=64"])
    for method in ("simclr", "moco"):
        assert [c.options["temperature"] for c in select_cells(request, method)] == [0.1, 0.5]
        assert {(c.options["head"], c.options["head_dim"]) for c in select_cells(request, method)} == {("linear", 64)}
    assert len(select_cells(request, "random")) == 1
    assert any("temperature does not apply to random" in note for note in request.notes)
    assert not any("simclr" in note or "moco" in note for note in request.notes)


def test_an_option_that_one_of_two_lacks_gives_that_one_a_single_cell_and_a_note() -> None:
    request = read(["methods=simclr,moco", "queue=256,512"])
    assert [len(select_cells(request, m)) for m in ("simclr", "moco")] == [1, 2]
    assert len(request.notes) == 1
    assert "queue does not apply to simclr" in request.notes[0]


@pytest.mark.parametrize("words", ["temperature=0.5 moco.temperature=0.3", "moco.temperature=0.3 temperature=0.5"])
def test_the_prefixed_word_wins_in_either_order(words: str) -> None:
    simclr, moco = read_cells(f"methods=simclr,moco {words}")
    assert (simclr.options["temperature"], moco.options["temperature"]) == (0.5, 0.3)


def test_a_setting_can_be_given_for_one_method() -> None:
    simclr, moco = read_cells("methods=simclr,moco learning_rate=0.3 moco.learning_rate=0.03")
    assert (simclr.learning_rate, moco.learning_rate) == (0.3, 0.03)
    assert len(read_cells("methods=simclr,moco moco.seeds=0,1,2")) == 4


def test_presets_stand_below_the_user_s_words() -> None:
    preset, words = read_cell("methods=moco"), presets.digits()
    assert preset.epochs == int(words["epochs"].value) != Settings().epochs
    assert preset.options["queue"] == int(words["moco.queue"].value) != 65536
    assert read_cell("methods=moco epochs=3").epochs == 3
    assert read_cell("methods=moco temperature=0.4").options["temperature"] == 0.4, (
        "also where the preset names the method"
    )
    assert read_cell("methods=moco batch_norm=local").batch_norm == "local"
    assert read_cell("methods=moco preset=none").options["queue"] == 65536
    assert read_cell("methods=moco preset=none").batch_norm == "shuffle:8", "what the method recommends"
    assert read_cell("methods=moco preset=none batch_norm=local").batch_norm == "local"
    assert read_cell("methods=moco preset=none") != read_cell("methods=moco preset=cifar")
    cifar = read_cell("methods=moco dataset=cifar10")
    assert (cifar.epochs, cifar.options["queue"], cifar.learning_rate) == (200, 4096, 0.03)


def test_what_an_optimiser_does_not_read_makes_no_cell_of_its_own() -> None:
    assert len(read_cells("methods=simclr optimiser=larc decay_all=true,false")) == 1
    assert len(read_cells("methods=simclr optimiser=adamw sgd_momentum=0.8,0.9")) == 1
    assert len(read_cells("methods=simclr optimiser=lars decay_all=true,false")) == 2


@pytest.mark.parametrize(
    ("words", "note"),
    [
        (
            "methods=simclr optimiser=adamw sgd_momentum=0.8,0.9",
            "sgd_momentum makes no difference to simclr: optimiser=adamw does not read it",
        ),
        (
            "methods=simclr simclr.loss=margin temperature=0.1",
            "temperature makes no difference to simclr with loss=margin: it is read with loss=nt_xent or nt_logistic",
        ),
        ("methods=simclr simclr.loss=nt_logistic ablation=temperature", ""),
        (
            "methods=simclr margin=0.2",
            "margin makes no difference to simclr with loss=nt_xent: it is read with loss=margin or semi_hard",
        ),
        (
            "methods=dcl sigma=0.2,0.4",
            "sigma makes no difference to dcl with weighted=false: it is read with weighted=true alone",
        ),
        ("methods=dcl sigma=0.2 weighted=true", ""),
        (
            "methods=swav queue_start=2",
            "queue_start makes no difference to swav with queue=0: it is read with queue above 0 alone",
        ),
        ("methods=swav queue_start=2 queue=64", ""),
        ("methods=simclr batch_size=32 microbatch=32", "microbatch=32 cuts nothing of batch_size=32"),
        ("methods=simclr dataset.root=my/images", "images of your own are dataset=folder dataset.root=my/images"),
        ("methods=simclr dataset=cifar10 dataset.root=my/images", ""),
        ("methods=simclr dataset.cache_dir=kept", "dataset.cache_dir=kept is not read"),
        ("methods=pcl pcl.clusters=20+700", "clusters=700 for 1213 training images: clusters of one or two images"),
    ],
)
def test_a_word_that_makes_no_difference_is_said(words: str, note: str) -> None:
    notes = read(words.split()).notes
    assert [note in one for one in notes] == ([True] if note else [])


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_every_word_of_a_preset_means_something_and_every_method_has_a_cell(preset: str) -> None:
    names = set(schema.list_types()) | {f"{m}.{n}" for m in methods.names() for n in schema.list_types()}
    names |= {f"{m}.{option}" for m in methods.names() for option in schema.list_options(m)}
    assert set(presets.PRESETS[preset]()) - names == set()
    assert len(read_cells(f"methods={','.join(methods.names())} dataset=cifar10 preset={preset}")) == len(
        methods.names()
    )


def test_the_backbone_that_a_preset_gives_a_method_yields_to_the_user_s() -> None:
    others, masked = read_cells("methods=simclr,mae dataset=cifar10")
    assert (others.backbone, others.stem, others.pool) == ("resnet18", "auto", "auto")
    assert (masked.backbone, masked.stem, masked.pool) == ("vit_tiny_patch16_224", "small", "avg")
    same = read_cells("methods=simclr,mae dataset=cifar10 backbone=vit_small_patch16_224")
    assert {cell.backbone for cell in same} == {"vit_small_patch16_224"}


@pytest.mark.parametrize("model", ["tiny", "small", "base"])
@pytest.mark.parametrize(("view", "stem"), [(32, "small"), (64, "small"), (96, "auto"), (224, "auto")])
def test_a_vision_transformer_has_its_own_settings(model: str, view: int, stem: str) -> None:
    words = f"dataset=cifar10 backbone=vit_{model}_patch16_224 view_size={view}"
    by_method = {
        one.method: one for one in read_cells(f"methods=simclr,moco,moco_v3,dino,lejepa,mae,simmim,ijepa,ibot {words}")
    }
    assert {(one.optimiser, one.stem) for one in by_method.values()} == {("adamw", stem)}
    assert {name: one.pool for name, one in by_method.items() if one.pool != "auto"} == dict.fromkeys(
        ("mae", "simmim", "ijepa"), "avg"
    )
    rates = {name: (one.learning_rate, one.weight_decay) for name, one in by_method.items()}
    assert rates["moco_v3"] == rates["simclr"] == rates["moco"] == (1.5e-4, 0.1)
    assert rates["mae"] == (1.5e-4, 0.05)
    assert rates["dino"] == rates["ibot"] == (5e-4, 0.04)
    assert rates["lejepa"] == (5e-4 if view > 128 else 2e-3, 0.05)
    assert {by_method[name].weight_decay_end for name in ("dino", "ijepa", "ibot")} == {0.4}
    assert by_method["moco_v3"].options["freeze_patches"]
    assert by_method["moco_v3"].options["temperature"] == 0.2


def test_words_and_weights_win_over_a_transformer_s_settings() -> None:
    vit = "methods=dino dataset=cifar10 backbone=vit_tiny_patch16_224"
    assert (read_cell(f"{vit} optimiser=sgd").optimiser, read_cell(f"{vit} stem=native").stem) == ("sgd", "native")
    assert read_cell(f"{vit} weights=timm").stem == "auto", "timm's weights are those of its own patches"
    assert read_cell(f"{vit} preset=none").optimiser == "sgd"
    assert read_cell("methods=dino dataset=cifar10 backbone=resnet50").optimiser == "sgd"
    few = "methods=simclr,mae dataset=digits backbone=test_vit"
    assert [one.learning_rate for one in read_cells(few)] == [1e-3, 6e-3], (
        "MAE's own, which were tuned with this network"
    )


def test_what_is_chosen_for_a_vision_transformer_is_said() -> None:
    notes = {
        method: [note for note in read_notes(method) if "recipe" in note] for method in ("simclr", "dino", "random")
    }
    assert [note.partition(",")[0] for note in notes["simclr"]] == ["simclr: for vit_tiny_patch16_224 MoCo v3's recipe"]
    assert "for want of its own" in notes["simclr"][0]
    assert "learning_rate=1.5e-4" in notes["simclr"][0]
    assert ["its own recipe" in note for note in notes["dino"]] == [True]
    assert not notes["random"], "nothing is trained"
    assert not [note for note in read_notes("dino", "preset=none") if "recipe" in note]


def read_notes(method: str, *more: str) -> list[str]:
    words = [f"methods={method}", "dataset=cifar10", "backbone=vit_tiny_patch16_224", *more]
    return cell_words.read(words).notes


def test_a_preset_follows_each_cell_s_dataset() -> None:
    assert [c.epochs for c in read_cells("methods=simclr dataset=digits,cifar10,svhn")] == [
        int(presets.digits()["epochs"].value),
        int(presets.cifar()["epochs"].value),
        200,  # svhn has no preset: fitted to its 65,931 images, of which a million seen is fewer epochs
    ]


def test_training_settings_do_not_apply_to_a_random_backbone() -> None:
    request = read(["methods=random", "epochs=10,20", "learning_rate=0.1", "seeds=0,1"])
    assert len(request.cells) == 2
    assert {(c.epochs, c.batch_size, c.augmentation, c.learning_rate) for c in request.cells} == {(None,) * 4}
    assert {c.backbone for c in request.cells} == {"resnet10t"}
    assert "epochs does not apply to random: one cell" in request.notes
    assert "learning_rate does not apply to random: ignored" in request.notes


def test_pixels_have_neither_backbone_nor_seed() -> None:
    request = read(["methods=pixels", "seeds=0,1,2", "backbone=resnet18,resnet50"])
    assert [(c.seed, c.backbone) for c in request.cells] == [(None, None)]
    assert "seeds does not apply to pixels: one cell" in request.notes
    assert compute_key("methods=pixels") == compute_key("methods=pixels seeds=7")


def test_equal_cells_are_given_once() -> None:
    assert len(read_cells("methods=simclr,simclr epochs=3,3 seeds=0,0,1")) == 2
    assert len(read_cells("methods=simclr view_size=0,16 preset=digits")) == 2
    assert len(read_cells("methods=simclr view_size=0,32 preset=none")) == 1, "0 is the dataset's own size"


def test_what_does_not_change_the_result_does_not_change_the_key() -> None:
    usual = compute_key("methods=simclr")
    assert usual == compute_key("methods=simclr")
    assert compute_key("methods=moco temperature=0.3 epochs=4") == compute_key(
        "epochs=4 moco.temperature=0.3 methods=moco"
    )
    epochs, rate = (presets.digits()[word].value for word in ("epochs", "simclr.learning_rate"))
    assert usual == compute_key(f"methods=simclr epochs={epochs} learning_rate={float(rate) * 10}e-1"), (
        "what the preset says"
    )
    for word in (
        "out=elsewhere",
        "device=cpu",
        "threads=1",
        "compile=true",
        "log_every=1",
        "checkpoint_every=5",
        "dataset.root=/somewhere",
        "dataset.download=true",
    ):
        assert compute_key(f"methods=simclr {word}") == usual, word


@pytest.mark.parametrize(
    "word",
    [
        "seeds=1",
        "backbone=resnet18",
        "stem=native",
        "pool=avg",
        "view_size=24",
        "augmentation=crop",
        "epochs=13",
        "batch_size=64",
        "microbatch=32",
        "optimiser=adamw",
        "learning_rate=0.1",
        "learning_rate_rule=sqrt",
        "schedule=constant",
        "warmup=0",
        "weight_decay=0",
        "weight_decay_end=0.04",
        "decay_all=true",
        "sgd_momentum=0.8",
        "batch_norm=local",
        "precision=fp32",
        "temperature=0.3",
        "head=linear",
        "head_dim=64",
        "head_norm=false",
        "dataset.limit=500",
        "dataset.validation=0.2",
        "dataset.split_seed=1",
        "dataset.split_seed=seed",
        "dataset=mnist",
        "preset=none",
    ],
)
def test_what_changes_the_result_changes_the_key(word: str) -> None:
    assert compute_key(f"methods=simclr {word}") != compute_key("methods=simclr")


def test_settings_that_came_later_leave_the_keys_of_cells_without_them() -> None:
    usual, adamw = compute_key("methods=simclr"), compute_key("methods=simclr optimiser=adamw")
    decay = presets.digits()["simclr.weight_decay"].value
    for words in ("weight_decay_end=constant", f"weight_decay_end={decay}", "adamw_beta2=0.95"):
        assert compute_key(f"methods=simclr {words}") == usual, "a decay that ends as it began; SGD has no betas"
    assert compute_key("methods=simclr optimiser=adamw adamw_beta2=0.999") == adamw
    assert compute_key("methods=pixels pool=avg") == compute_key("methods=pixels"), "which has no backbone"
    assert compute_key("methods=simclr optimiser=adamw adamw_beta2=0.95") != adamw
    assert not {"pool", "weight_decay_end", "adamw_beta2"} & set(address.identify(read_cell("methods=random")))


def test_other_names_of_methods_are_words_of_a_cell() -> None:
    variants = {name: read_cell(words) for name, words in methods.variants().items()}
    assert {"nnbyol", "nnsiam", "hcl", "debiased"} <= set(variants)
    assert all(address.hash_cell(one) != compute_key(f"methods={one.method}") for one in variants.values())


def test_a_number_is_one_setting_however_it_was_come_by() -> None:
    """3 x 0.2 is 0.6000000000000001 in binary."""
    assert len(read(["methods=dcl", "temperature=0.6,x3,0.6000000000000001"]).cells) == 1
    assert compute_key("methods=simclr weight_decay=-0.0") == compute_key("methods=simclr weight_decay=0")


@pytest.mark.parametrize("word", [f"seeds={10**120}", "weight_decay=1e150"])
def test_a_number_that_no_record_can_hold_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match=r"no record can hold a number beyond 1e\+100"):
        read(["methods=simclr", word])


def test_a_decimal_comma_is_told() -> None:
    with pytest.raises(UsageError, match=r"learning_rate=05: .* the decimal point is a dot, learning_rate=0\.05"):
        read(["methods=simclr", "learning_rate=0,05"])
    (note,) = [n for n in read(["methods=simclr", "weight_decay=0,5"]).notes if "dot" in n]
    assert note == "weight_decay=0,5 is two values, 0 and 5; the decimal point is a dot"


def test_only_all_and_families_make_a_method_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    request = read(["methods=my_own.py,simclr,family:end_to_end"])
    assert {cell.method for cell in request.cells} == {"my_own", "simclr", *request.optional}
    assert "nnclr" in request.optional
    assert read(["methods=my_own.py,simclr"]).optional == frozenset()


def test_one_seed_that_may_have_been_meant_as_a_number_of_seeds_is_told() -> None:
    note = "seeds=3 is one seed, the number 3; 3 seeds are seeds=0-2"
    for reader in (cell_words, tune_words):
        assert note in reader.read(["methods=moco", "seeds=3"]).notes
        for word in ("seeds=1", "seeds=1-3", "seeds=42"):
            assert not any("one seed" in n for n in reader.read(["methods=moco", word]).notes)
    assert not [n for n in read(["methods=simclr", "weight_decay=0,0.5", "seeds=0,5"]).notes if "dot" in n]


def test_a_large_grid_is_asked_about_and_shows_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cell_words, "MANY", 20)
    monkeypatch.setattr(cell_words, "LONG", 10)
    words = ["methods=simclr,moco", "seeds=0,1,2", "epochs=1,2,3,4"]
    with pytest.raises(UsageError, match="more than 20 cells are asked for, 24 up to moco: many=true allows it"):
        read(words)
    assert len(read([*words, "many=true"]).cells) == 24
    assert "moco: reading 12 cells" in capsys.readouterr().err


def test_values_have_their_declared_type() -> None:
    cell = read_cell("methods=moco moco.symmetric=yes moco.queue=512 momentum=1 precision=fp32 weight_decay=1e-4")
    assert (cell.options["symmetric"], cell.options["queue"], cell.options["momentum"]) == (True, 512, 1.0)
    assert (cell.precision, cell.weight_decay) == ("fp32", 1e-4)
    assert read(["methods=simclr", "out=a/b=c", "log_every=5"]).runtime.out == "a/b=c"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("methods=mocoo", ["'mocoo'", "did you mean 'moco'", "simclr"]),
        ("methods=simclr epoch=3", ["'epoch'", "did you mean 'epochs'"]),
        ("methods=simclr seed=3", ["'seed'", "did you mean 'seeds'"]),
        ("methods=SimCLR", ["'SimCLR'; did you mean 'simclr'?"]),
        ("methods=moco-v3", ["'moco-v3'; did you mean 'moco_v3'?"]),
        ("methods=moco_v2", ["'moco_v2'; did you mean 'moco'?"]),
        ("methods=nnBYOL", ["'nnBYOL': it is methods=byol byol.neighbours=1024"]),
        ("methods=simclr amp=true", ["here it is precision="]),
        ("methods=simclr pretrained=true", ["here it is weights="]),
        ("methods=simclr proj_dim=64", ["here it is head_dim="]),
        ("methods=simclr simclr.proj_dim=64", ["here it is simclr.head_dim="]),
        ("methods=simclr dataset.path=images", ["here it is dataset.root="]),
        ("methods=simclr dataset.image_size=64", ["here it is dataset.side="]),
        ("methods=simclr dataset.transform=none", ["here it is augmentation="]),
        ("methods=simclr model.backbone=resnet18", ["here it is backbone="]),
        ("methods=simclr optim.lr=0.1", ["here it is learning_rate="]),
        ("methods=simclr simclr.num_workers=2", ["'simclr.num_workers'; threads= is one for all methods"]),
        ("methods=simclr precision=fp16", ["auto, fp32, bf16, fp64; did you mean 'bf16'?"]),
        ("methods=simclr optimiser=adam", ["did you mean 'adamw'?"]),
        ("methods=simclr batch_size=1e3", ["whole number is needed; did you mean 1000?"]),
        ("methods=simclr seeds=0..2", ["seeds=0..2", "seeds=0-2"]),
        ("methods=simclr seeds=[0,1,2]", ["seeds=[0", "seeds=0-2"]),
        ("methods=moco moco.quue=4", ["'moco.quue'", "did you mean 'queue'", "options of moco"]),
        ("methods=moco temprature=1", ["'temprature'", "did you mean 'temperature'"]),
        ("methods=moco moco.dataset=mnist", ["'moco.dataset'"]),
        ("methods=simclr optimiser=sgdd", ["optimiser=sgdd", "sgd, adamw, lars", "did you mean 'sgd'"]),
        ("methods=simclr head=mlpp", ["head=mlpp", "mlp, linear, none", "did you mean 'mlp'"]),
        ("methods=simclr decay_all=perhaps", ["decay_all=perhaps", "true or false"]),
        ("methods=simclr epochs=ten", ["epochs=ten", "whole number"]),
        ("methods=simclr epochs=1.5", ["epochs=1.5", "whole number"]),
        ("methods=simclr epochs=0", ["epochs=0", "at least 1"]),
        ("methods=simclr dataset.split_seed=sed", ["dataset.split_seed=sed", "number or seed", "did you mean 'seed'"]),
        ("methods=simclr seeds=0,-1", ["seed=-1", "at least 0"]),
        ("methods=simclr batch_size=1", ["batch_size=1", "at least 2"]),
        ("methods=simclr temperature=0", ["temperature=0", "above 0"]),
        ("methods=moco momentum=1.5", ["momentum=1.5", "between 0 and 1"]),
        ("methods=simclr warmup=2", ["warmup=2", "between 0 and 1"]),
        ("methods=simclr learning_rate=nan", ["learning_rate=nan", "finite"]),
        ("methods=simclr weight_decay_end=constnat", ["weight_decay_end=constnat", "number or constant", "'constant'"]),
        ("methods=simclr weight_decay_end=-1", ["weight_decay_end=-1", "at least 0"]),
        ("methods=simclr adamw_beta2=1", ["adamw_beta2=1.0", "below 1"]),
        ("methods=simclr weight_decay=inf", ["weight_decay=inf", "finite"]),
        ("methods=simclr batch_norm=split:x", ["batch_norm=split:x", "split:N"]),
        ("methods=simclr batch_norm=split:0", ["batch_norm=split:0", "at least 1"]),
        ("methods=simclr batch_norm=split:4 microbatch=16", ["batch_norm=split:4", "microbatch=16"]),
        ("methods=simclr epochs=1 epochs=2", ["epochs= is given twice", "epochs=A,B"]),
        ("methods=simclr methods=moco", ["methods= is given twice"]),
        ("methods=simclr epochs=", ["'epochs='", "empty"]),
        ("methods=simclr seeds=0,,1", ["'seeds=0,,1'", "empty"]),
        ("methods=simclr epochs", ["'epochs'", "key=value"]),
        ("methods=simclr =3", ["'=3'", "key=value"]),
        ("seeds=0", ["methods= is needed"]),
        ("methods=simclr moco.queue=4", ["moco.queue=", "moco is not among methods=simclr"]),
        ("methods=simclr,random queue=4", ["none of methods=simclr,random", "'queue'", "moco"]),
        ("methods=simclr out=a,b", ["out=a,b", "one value"]),
        ("methods=simclr preset=digits,cifar", ["preset=digits,cifar", "one value"]),
        ("methods=simclr log_every=0", ["log_every", "at least 1"]),
        ("methods=simclr evaluate_every=atuo", ["evaluate_every=atuo", "number of epochs", "did you mean 'auto'"]),
        ("methods=simclr evaluate_every=-1", ["evaluate_every=-1", "number of epochs"]),
        ("methods=simclr stop_below=30", ["stop_below=30", "PERCENT@EPOCHS", "30@20"]),
        ("methods=simclr stop_below=101@5", ["stop_below=101@5", "at most 100"]),
        ("methods=simclr stop_below=30@0", ["stop_below=30@0", "at least 1 epoch"]),
        ("methods=simclr stop_below=30@5,35@5", ["stop_below=30@5,35@5", "of other epochs, 30@20,35@40"]),
        ("methods=simclr stop_below=30@5 evaluate_every=0", ["stop_below=30@5", "not evaluate_every=0"]),
        ("methods=simclr augmentation=crop+flipp", ["'flipp'", "did you mean 'flip'", "colour"]),
        ("methods=simclr dataset=cifra10", ["'cifra10'", "did you mean 'cifar10'", "digits"]),
        ("methods=simclr preset=cifr", ["'cifr'", "did you mean 'cifar'", "digits"]),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(words: str, parts: list[str]) -> None:
    message = read_refusal(words)
    assert [part for part in parts if part not in message] == [], message
    assert "\n" not in message


def test_commands_that_read_a_folder_take_only_out() -> None:
    assert read_out(["out=there"]).out == "there"
    with pytest.raises(UsageError, match="epochs= does not apply here; only out=FOLDER"):
        read_out(["epochs=3"])


@pytest.fixture
def plugin(write_plugin: Callable[[str], str]) -> str:
    """The dotted path of a method outside of this project."""
    return write_plugin(PLUGIN)


def test_a_plugin_by_dotted_path(plugin: str) -> None:
    cells = read_cells(
        f"methods={plugin},simclr mine.weight=0.5,2 {plugin}.depth=3 tied=true mode=hard epochs=2 seeds=4"
    )
    assert [c.method for c in cells] == [plugin, plugin, "simclr"]
    assert cells[0].options == {"weight": 0.5, "depth": 3, "tied": True, "mode": "hard"}
    assert cells[1].options["weight"] == 2.0
    assert {(c.epochs, c.seed) for c in cells} == {(2, 4)}
    assert (cells[0].stem, cells[2].stem) == (None, "auto"), "what the plugin declares to ignore"
    assert methods.describe(plugin).views == ("crop",)
    assert methods.describe(plugin).help["depth"] == "layers"


def test_a_default_written_as_1_is_the_same_cell_as_the_word_1(plugin: str) -> None:
    assert compute_key(f"methods={plugin}") == compute_key(f"methods={plugin} mine.weight=1")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("mine.mode=sof", ["mine.mode=sof", "soft, hard", "did you mean 'soft'"]),
        ("mine.depht=3", ["mine.depht", "did you mean 'depth'"]),
        ("depth=0", ["depth=0", "depth must be at least 1"]),
        ("tied=maybe", ["tied=maybe", "true or false"]),
        ("mine.depth=3 {plugin}.depth=4", ["mine.depth=", "{plugin}.depth=", "the same option"]),
    ],
)
def test_a_plugin_s_options_are_checked_like_ours(plugin: str, words: str, parts: list[str]) -> None:
    message = read_refusal(f"methods={plugin} " + words.replace("{plugin}", plugin))
    assert [part for part in parts if part.replace("{plugin}", plugin) not in message] == [], message


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("weight: float = 1", "epochs: int = 1", "option 'epochs' has the name of a setting"),
        ("weight: float = 1", "weight: float", "option 'weight' needs a default"),
        ("weight: float = 1", "weight: tuple = ()", "option 'weight' must be an int, a float, a bool"),
        ("depth: int = 2", "depth: int = 0", "depth must be at least 1"),
        ('("stem",)', '("stems",)', "ignores 'stems'; allowed are seed, backbone, weights, stem"),
        ('("crop",)', "tuple(TWO)", "views must be written out"),
        ('("crop",)', '("crop",); read_with = {"depth": ("tied", True)}', "another option, and its values as texts"),
        ("Mine(Method)", "Mine", "one class derived from Method is needed, 0 found"),
        ("class Mine", "clas Mine", "SyntaxError"),
        ("if self.depth < 1", "if math.isnan(self.depth)", "name 'math' is not defined"),
    ],
)
def test_a_plugin_that_cannot_be_read_is_named(plugin: str, old: str, new: str, part: str) -> None:
    path = methods.source(plugin)
    path.write_text(PLUGIN.replace(old, new))
    message = read_refusal(f"methods={plugin}")
    assert plugin in message
    assert part in message


def test_a_plugin_whose_package_cannot_be_imported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "words_needs_more"
    package.mkdir()
    (package / "__init__.py").write_text("import a_library_that_is_not_here")
    (package / "mine.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "a_library_that_is_not_here" in read_refusal("methods=words_needs_more.mine")
    assert "unknown method 'no_such_package.mine'" in read_refusal("methods=no_such_package.mine")


def test_reading_words_does_not_import_torch() -> None:
    code = "import sys; from benchmark.words.cell_words import read; read(['methods=simclr,moco'])"
    code += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=PATIENCE)


def test_seeds_may_be_a_range() -> None:
    assert [c.seed for c in read_cells("methods=simclr seeds=0-2,7")] == [0, 1, 2, 7]
    assert "seeds=0-4" in read_refusal("methods=simclr seeds=4-0")
    assert "10,000" in read_refusal("methods=simclr seeds=0-99999999")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("methods=simclr lr=0.1", "learning_rate="),
        ("methods=moco moco.lr=0.1", "moco.learning_rate="),
        ("methods=simclr bs=64", "batch_size="),
        ("methods=simclr tau=0.1", "temperature="),
        ("method=simclr", "methods= is needed, not method="),
    ],
)
def test_what_a_word_is_called_elsewhere_is_known(words: str, hint: str) -> None:
    assert hint in read_refusal(words)


def test_words_from_a_file_are_words_that_others_override(tmp_path: Path) -> None:
    file = tmp_path / "study.txt"
    file.write_text("methods=simclr\n# a remark\n\nepochs=3\nseeds=0-1\n")
    cells = read_cells(f"@{file} epochs=5")
    assert [(c.epochs, c.seed) for c in cells] == [(5, 0), (5, 1)]
    assert "no.txt" in read_refusal("@no.txt")
    file.write_text("@other.txt")
    assert "names no other file" in read_refusal(f"@{file}")
    assert "@study.txt" in read_refusal("@")


def test_a_file_of_the_folder_is_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "mine_in_a_file"
    (tmp_path / f"{name}.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert compute_key(f"methods={name}.py") == compute_key(f"methods=./{name}.py") == compute_key(f"methods={name}")
    assert read_cell(f"methods={name}.py {name}.depth=3").options["depth"] == 3
    (tmp_path / "simclr.py").write_text(PLUGIN)
    assert "a method of ours has its name" in read_refusal("methods=simclr.py")
    assert "no such file" in read_refusal("methods=nothing.py")
