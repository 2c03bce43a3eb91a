"""Contrastive divergence: Training Products of Experts by Minimizing Contrastive Divergence (Hinton, 2002).

An energy, the backbone and a linear layer, is lowered at images and raised at samples of the model. Samples are made by
a few Langevin steps (Du and Mordatch, arXiv:1903.08689), from the image itself (CD-k), or with `persistent` from chains
that go on from step to step (Tieleman, ICML 2008), of which a twentieth begins anew. A small penalty on the squares of
the energies keeps them near 0 (1903.08689, section 3.3). Evaluated is the backbone. Batch norm ties the energies of a
batch together, so that the slope of one image's also depends on the others. It is meant for small views: above 64
pixels the few Langevin steps reach nothing, and it refuses.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.method import Batch, Method, Progress
from methods.parts.chance import Chance
from methods.parts.memory import last_of_each
from methods.parts.statistics import frozen_statistics

LARGEST = 64  # pixels
ANEW = 0.05  # share of the chains that begin with noise (1903.08689, its replay buffer)


class ContrastiveDivergence(Method):
    family = "energy"
    views = ("crop",)
    sized = True
    read_with = {"chains": ("persistent", "true")}  # noqa: RUF012
    search_space = {  # noqa: RUF012
        "penalty": (0.01, 1.0),  # ours: a decade below and above the default
        "langevin_noise": (0.001, 0.1),  # ours: the same
    }

    @dataclass(frozen=True)
    class Config:
        persistent: bool = True  # chains that go on, instead of k steps from each image
        chains: int = 1024  # that are kept
        langevin_steps: int = 10  # k
        langevin_rate: float = 1.0  # of a step along minus the energy's gradient
        langevin_noise: float = 0.01  # standard deviation of what a step adds
        penalty: float = 0.1  # on the squares of the energies

        def __post_init__(self) -> None:
            if min(self.chains, self.langevin_steps) < 1:
                raise ValueError("chains and langevin_steps must be at least 1")
            if min(self.langevin_rate, self.langevin_noise, self.penalty) < 0:
                raise ValueError("langevin_rate, langevin_noise and penalty must be at least 0")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int, size: int) -> None:
        super().__init__(config, encoder, width, images)
        if size > LARGEST:
            raise ValueError(f"views of {size} pixels: Langevin's few steps are for {LARGEST} at most, see view_size=")
        self.energy = nn.Linear(width, 1)
        self.chance = Chance()
        self.register_buffer("chains", torch.randn(config.chains if config.persistent else 0, 3, size, size))

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        x = batch.views[0]
        sample = self.sample(x, batch.index, at.step)
        e_x = self.energy(self.encoder(x)).squeeze(1)
        with frozen_statistics(self.encoder):  # features are evaluated on images, not on samples
            e_sample = self.energy(self.encoder(sample)).squeeze(1)
        rows = {"x": e_x, "sample": e_sample}
        return rows | ({"chain": batch.index % self.config.chains, "state": sample} if self.config.persistent else {})

    def sample(self, x: Tensor, index: Tensor, step: int) -> Tensor:
        """(n, 3, H, W): Langevin steps from the chains of the images `index`, or from the images x themselves."""
        c = self.config
        noise = self.chance.normal(index, step, c.langevin_steps + 1, *x.shape[1:]).to(x.dtype)
        sample = x.detach()
        if c.persistent:
            anew = self.chance.uniform(index, -1 - step, 1, 1, 1) < ANEW
            sample = torch.where(anew, noise[:, -1], self.get_buffer("chains")[index % c.chains].to(x.dtype))
        with torch.enable_grad(), frozen_statistics(self.encoder):
            for number in range(c.langevin_steps):
                sample = sample.detach().requires_grad_()
                (slope,) = torch.autograd.grad(self.energy(self.encoder(sample)).sum(), sample)
                sample = sample - c.langevin_rate / 2 * slope + c.langevin_noise * noise[:, number]
        return sample.detach()

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        divergence = rows["x"].mean() - rows["sample"].mean()
        squares = rows["x"].square().mean() + rows["sample"].square().mean()
        return {"loss": divergence + self.config.penalty * squares, "divergence": divergence}

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        if self.config.persistent:
            chain = rows["chain"]
            self.get_buffer("chains")[chain] = rows["state"].to(self.get_buffer("chains").dtype)[last_of_each(chain)]
