"""PIRL: Self-Supervised Learning of Pretext-Invariant Representations (arXiv:1912.01991), with jigsaw.

The image (head f) and its nine shuffled patches (head g) are both drawn to the image's row of a memory bank, and away
from others'. Equation 5: L = lambda L_NCE(m_I, g(v_It)) + (1 - lambda) L_NCE(m_I, f(v_I)). Only f is written to the
bank. With lambda = 0 it is InstDisc with the same form of L_NCE.

`shared` (default) reads equations 3 and 4 as one softmax over the positive and the K negatives, seen from the anchor;
the paper leaves the denominator open. `nce` is what its authors run (VISSL): InstDisc's form, with Z from the first
batch's patch term. `infonce` (PyContrast) is -log h alone. The negatives are drawn once a step, for the batch and both
terms; but for `nce` an image's own row is left out.

The patch sizes for small images are our own: no reference exists (`benchmark/augment/jigsaw.py`). So is
`start=features`, for short trainings (see `instdisc.py`), and that running statistics of batch norm, with which
features are evaluated, follow the images and not the patches, whose statistics are others: on the digits 93 % instead
of 89 % of the test images were then right by their 20 nearest neighbours.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from methods.method import Batch, Method, Progress
from methods.parts.heads import normalise, projector
from methods.parts.memory import Bank
from methods.parts.statistics import frozen_statistics
from methods.parts.symptoms import at_chance

PATCHES = 9


class PIRL(Method):
    family = "memory_bank"
    views = ("crop", "jigsaw")
    read_with = {"negatives": ("loss", "shared", "nce", "infonce")}  # noqa: RUF012
    search_space = {  # noqa: RUF012
        "temperature": (0.05, 0.5),  # 0.07 in section 3.3; the upper end as MoCo's
        "weight": ("0.25", "0.5", "0.75"),  # lambda, which the paper varies from 0 to 1
    }

    @dataclass(frozen=True)
    class Config:
        temperature: float = 0.07  # tau in equation 3 (section 3.3)
        weight: float = 0.5  # lambda in equation 5 (section 3.3)
        loss: Literal["shared", "nce", "infonce", "softmax"] = "shared"  # the form of L_NCE; softmax: over all N rows
        negatives: int = 32000  # K, the drawn rows of the bank (section 3.3)
        momentum: float = 0.5  # of the bank's rows (section 3.3)
        start: Literal["random", "features"] = "random"  # the bank's first rows: noise (VISSL), or one pass's f
        head: Literal["linear", "mlp"] = "linear"  # f, and g on each patch (paper: linear; authors' later code: mlp)
        head_dim: int = 128  # width of f and g (section 3.3)

        def __post_init__(self) -> None:
            if self.temperature <= 0 or min(self.negatives, self.head_dim) < 1:
                raise ValueError("temperature must be above 0, negatives and head_dim at least 1")
            if not 0 <= self.weight <= 1 or not 0 <= self.momentum < 1:
                raise ValueError("weight must be between 0 and 1, momentum in [0, 1)")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        dim = config.head_dim
        self.f = projector(config.head, width, width, dim, norm=False)
        self.g_patch = projector(config.head, width, width, dim, norm=False)
        self.g = nn.Linear(PATCHES * dim, dim)
        self.bank = Bank(images, dim, config.negatives, unit=True)

    @property
    def head(self) -> nn.Module:
        """f, under the contract's name."""
        return self.f

    def before_epoch(self, at: Progress, embed: Callable[[Callable[[Tensor], Tensor]], Tensor]) -> None:
        if at.epoch == 0 and self.config.start == "features":
            self.bank.rows.copy_(embed(lambda x: normalise(self.f(self.encoder(x)))))

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        image, patches = batch.views  # (n, 3, H, W), (n, 9, 3, h, w)
        f = normalise(self.f(self.encoder(image)))
        # Patch by patch, as other views are laid out: first all images' first patch. Then again nine to an image.
        with frozen_statistics(self.encoder):
            h = self.encoder(patches.transpose(0, 1).flatten(0, 1))
        each = self.g_patch(h)
        together = each.unflatten(0, (PATCHES, -1)).transpose(0, 1).flatten(1)  # (n, 9 D)
        return {"f": f, "g": normalise(self.g(together)), "index": batch.index}

    def phase(self, at: Progress) -> bool:
        return at.step > 0  # the first step sets Z

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        c, z = self.config, self.z(rows, at)
        of_patches = self.bank.contrast(c.loss, rows["g"], rows["index"], c.temperature, z)
        of_image = self.bank.contrast(c.loss, rows["f"], rows["index"], c.temperature, z)
        loss = c.weight * of_patches + (1 - c.weight) * of_image
        return {"loss": loss, "loss_patches": of_patches, "loss_image": of_image}

    def z(self, rows: dict[str, Tensor], at: Progress) -> Tensor:
        """Z of `nce`, from the patches of the very first batch and the bank's start."""
        return self.bank.constant(self.config.loss, at.step, rows["g"], rows["index"], self.config.temperature)

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        self.bank.z.copy_(self.z(rows, at))
        self.bank.write(rows["index"], rows["f"], self.config.momentum)

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        form = "" if self.config.loss == "infonce" else " or loss=infonce"
        remedy = f"a lower learning rate, fewer negatives{form} helps"
        yield from at_chance(logged["loss"], self.bank.chance(self.config.loss), remedy)
