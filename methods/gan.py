"""GAN: Generative Adversarial Networks (arXiv:1406.2661), for its discriminator's features (DCGAN, arXiv:1511.06434).

The backbone with a linear layer tells views from what a small generator makes; the generator takes the paper's
non-saturating loss (section 3). Both take their step at once, from one loss: in the generator's part the weights of the
discriminator are constants. The generator is for views of 8 to 96 pixels, and refuses others. DCGAN's Adam has a first
momentum of 0.5, and `optimiser=adamw` here the usual 0.9.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts.chance import Chance
from methods.parts.decoder import Decoder
from methods.parts.statistics import frozen_statistics


class GAN(Method):
    family = "energy"
    views = ("crop",)
    sized = True

    @dataclass(frozen=True)
    class Config:
        code: int = 64  # numbers of the generator's noise

        def __post_init__(self) -> None:
            if self.code < 1:
                raise ValueError("code must be at least 1")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int, size: int) -> None:
        super().__init__(config, encoder, width, images)
        self.real = nn.Linear(width, 1)
        self.generator = Decoder(config.code, size)
        self.chance = Chance()

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        x = batch.views[0]
        noise = self.chance.normal(batch.index, at.step, self.config.code).to(x.dtype)
        made = self.generator(noise).to(x.dtype)
        says_x = self.real(self.encoder(x))
        with frozen_statistics(self.encoder):  # features are evaluated on images, not on what is made
            says_made = self.real(self.encoder(made.detach()))
            constant = {name: value.detach() for name, value in self.encoder.named_parameters()}
            features = functional_call(self.encoder, constant, made)
        fooled = F.linear(features, self.real.weight.detach(), self.real.bias.detach())
        return {"x": says_x.squeeze(1), "made": says_made.squeeze(1), "fooled": fooled.squeeze(1)}

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        discriminator = F.softplus(-rows["x"]).mean() + F.softplus(rows["made"]).mean()
        generator = F.softplus(-rows["fooled"]).mean()
        return {"loss": discriminator + generator, "discriminator": discriminator, "generator": generator}

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        if logged["discriminator"] < 1e-3:
            yield (
                "won",
                "the discriminator tells all images from what is made, and learns no more; a lower learning rate helps",
            )
