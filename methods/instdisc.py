"""InstDisc: Unsupervised Feature Learning via Non-Parametric Instance Discrimination (arXiv:1805.01978).

Every image is a class of its own, represented by its row of a memory bank. `softmax` is equation 2 over all rows.
`nce` (default, the paper's for ImageNet) is equations 4 to 8 with the constant Z. `infonce` (PyContrast) and `shared`
(PIRL's) are later forms. The paper's proximal term is not there: as in the authors' code the bank's momentum replaces
it (zhirongw/lemniscate.pytorch issue 11).

One deviation: the K negatives are drawn once a step for the whole batch, so that scoring them is one matrix product.
`start=features` is our own, for short trainings: with noise in the bank the rows that an epoch has already written are
nearer to every image than its own row is, and the first epochs go into running away from them. Small crops, which
the paper does not have, are scored like the image.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from methods.method import Batch, Method, Progress
from methods.parts.crops import by_image, encode
from methods.parts.heads import normalise, projector
from methods.parts.memory import Bank
from methods.parts.symptoms import at_chance


class InstDisc(Method):
    family = "memory_bank"
    views = ("crop",)
    multicrop = True
    read_with = {"negatives": ("loss", "nce", "infonce", "shared"), "head_dim": ("head", "linear", "mlp")}  # noqa: RUF012
    search_space = {  # noqa: RUF012
        "temperature": (0.05, 0.5),  # 0.07 and, on CIFAR, 0.1; the upper end as MoCo's
        "momentum": ("0", "0.5", "0.9"),  # ours: of the bank, 0.5 in the authors' code
    }

    @dataclass(frozen=True)
    class Config:
        temperature: float = 0.07  # tau in equation 2 (section 4; 0.1 in the authors' CIFAR script)
        loss: Literal["nce", "softmax", "infonce", "shared"] = "nce"  # softmax, over all N rows, for small data
        negatives: int = 4096  # K, the drawn rows of nce, infonce and shared (section 4.2)
        momentum: float = 0.5  # of the bank's rows (authors' code)
        start: Literal["random", "features"] = "random"  # the bank's first rows: noise (authors' code), or one pass's v
        head: Literal["linear", "mlp", "none"] = "linear"  # one linear layer (section 3); an MLP has one hidden layer
        head_dim: int = 128  # width of v (section 4)

        def __post_init__(self) -> None:
            if self.temperature <= 0 or min(self.negatives, self.head_dim) < 1 or not 0 <= self.momentum < 1:
                raise ValueError("temperature must be above 0, negatives and head_dim at least 1, momentum in [0, 1)")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        self.head = projector(config.head, width, width, config.head_dim, norm=False)
        dim = width if config.head == "none" else config.head_dim
        self.bank = Bank(images, dim, config.negatives, unit=False)

    def before_epoch(self, at: Progress, embed: Callable[[Callable[[Tensor], Tensor]], Tensor]) -> None:
        if at.epoch == 0 and self.config.start == "features":
            self.bank.rows.copy_(embed(lambda x: normalise(self.head(self.encoder(x)))))

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        v = normalise(self.head(encode(self.encoder, batch.views)))
        return {"v": by_image(v, len(batch.views)), "index": batch.index}

    def phase(self, at: Progress) -> bool:
        return at.step > 0  # the first step sets Z

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        c, v, index = self.config, rows["v"], rows["index"].repeat_interleave(rows["v"].shape[1])
        return {"loss": self.bank.contrast(c.loss, v.flatten(0, 1), index, c.temperature, self.z(rows, at))}

    def z(self, rows: dict[str, Tensor], at: Progress) -> Tensor:
        """Z of equation 8, from the very first batch and the bank's start."""
        c = self.config
        return self.bank.constant(c.loss, at.step, rows["v"][:, 0], rows["index"], c.temperature)

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        self.bank.z.copy_(self.z(rows, at))
        self.bank.write(rows["index"], rows["v"][:, 0], self.config.momentum)

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        few = "" if self.config.loss == "softmax" else ", or loss=softmax where the images are few,"
        remedy = f"a lower learning rate{few} helps"
        yield from at_chance(logged["loss"], self.bank.chance(self.config.loss), remedy)
