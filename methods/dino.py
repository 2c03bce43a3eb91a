"""DINO: Emerging Properties in Self-Supervised Vision Transformers (arXiv:2104.14294).

No negatives: every view of an image has to predict the distribution over K outputs that a momentum copy, the teacher,
gives each of the other large views. The teacher's logits are centred by their moving mean, so that no output takes all,
and sharpened by a low temperature, so that they do not become flat. Algorithm 1 and the authors' code.

As in the code the loss has the centre of the steps before; then the teacher's logits of this step move the centre, and
the teacher follows. Each tensor's gradient is clipped by itself. The authors' rate ends at 1e-6, ours at 0; that the
weight decay of their ViTs grows from 0.04 to 0.4 is the setting `weight_decay_end`. What is evaluated is the student,
by its last feature; the authors evaluate the teacher, and probe the class tokens of the last four blocks of ViT-S,
which `evaluations=teacher,tokens` adds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.method import Batch, Method, Progress
from methods.parts.crops import by_image, encode
from methods.parts.distil import LastLayer, bottleneck, clip_and_freeze, distillation, symptoms, warm_up
from methods.parts.heads import MomentumCopy, growing, normalise


class DINO(Method):
    family = "no_negatives"
    views = ("crop", "crop")
    momentum_encoder = "teacher_encoder"
    multicrop = True
    read_with = {"teacher_temperature_start": ("teacher_warmup",)}  # noqa: RUF012
    search_space = {  # noqa: RUF012
        "teacher_temperature": ("0.04", "0.05", "0.06", "0.07"),  # authors' code: from 0.04, to 0.07 for ViT-S
        "momentum": ("0.9", "0.99", "0.996", "0.9995"),  # 0.996 and 0.9995 in the authors' code; less: short trainings
        "prototypes": ("x0.5", "x1", "x2"),  # ours: about the preset's
    }

    @dataclass(frozen=True)
    class Config:
        temperature: float = 0.1  # tau_s of the student (authors' code, as all below)
        teacher_temperature: float = 0.07  # tau_t behind its warm-up (ViT-S; 0.04 for others)
        teacher_temperature_start: float = 0.04  # tau_t in the first epoch
        teacher_warmup: int = 30  # epochs in which it grows
        momentum: float = 0.996  # m at the start, growing to 1 by half a cosine (0.9995 at batch 256)
        centre_momentum: float = 0.9  # share of the centre that stays
        prototypes: int = 65536  # K, outputs
        norm_last_layer: bool = True  # the last layer's weights stay of unit length
        freeze: int = 1  # epochs in which the last layer stays as it starts
        clip: float = 3.0  # most norm of each tensor's gradient; 0 clips none
        head_layers: int = 3  # of the head before the last layer
        head_hidden: int = 2048  # width of its hidden layers
        head_dim: int = 256  # width of the bottleneck z
        head_norm: bool = False  # batch norm behind its hidden layers

        def __post_init__(self) -> None:
            if min(self.temperature, self.teacher_temperature, self.teacher_temperature_start) <= 0:
                raise ValueError("temperature, teacher_temperature and teacher_temperature_start must be above 0")
            if not (0 <= self.momentum <= 1 and 0 <= self.centre_momentum <= 1):
                raise ValueError("momentum and centre_momentum must be between 0 and 1")
            if min(self.teacher_warmup, self.freeze, self.clip) < 0:
                raise ValueError("teacher_warmup, freeze and clip must be at least 0")
            if self.prototypes < 2 or min(self.head_layers, self.head_hidden, self.head_dim) < 1:
                raise ValueError("prototypes must be at least 2, head_layers, head_hidden and head_dim at least 1")

    centre: Tensor  # (K,) of the teacher's logits

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        self.head = bottleneck(width, config.head_hidden, config.head_dim, config.head_layers, config.head_norm)
        self.last_layer = LastLayer(config.head_dim, config.prototypes, config.norm_last_layer)
        self.teacher_encoder = MomentumCopy(encoder)
        self.teacher_head = MomentumCopy(self.head)
        self.teacher_last_layer = MomentumCopy(self.last_layer)
        self.register_buffer("centre", torch.zeros(config.prototypes))

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        z = normalise(self.head(encode(self.encoder, batch.views)))
        target = normalise(self.teacher_head(encode(self.teacher_encoder, batch.views[:2])))
        return {"z": by_image(z, len(batch.views)), "target": by_image(target, 2)}  # (n, V, D), (n, 2, D)

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        student, teacher = self.last_layer(rows["z"]), self.teacher_last_layer(rows["target"])
        tau_t = self.teacher_temperature(at)
        return {"loss": distillation(student, teacher, self.centre, self.config.temperature, tau_t)}

    def teacher_temperature(self, at: Progress) -> float:
        config = self.config
        start, end = config.teacher_temperature_start, config.teacher_temperature
        return warm_up(start, end, config.teacher_warmup, at.epoch)

    def phase(self, at: Progress) -> float:
        return self.teacher_temperature(at)

    def after_backward(self, at: Progress) -> None:
        clip_and_freeze(self, self.config.clip, self.last_layer if at.epoch < self.config.freeze else None)

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        mean = self.teacher_last_layer(rows["target"]).mean(dim=(0, 1))
        self.centre.lerp_(mean.to(self.centre.dtype), 1 - self.config.centre_momentum)
        momentum = growing(self.config.momentum, at.step, at.steps)
        self.teacher_encoder.update(self.encoder, momentum)
        self.teacher_head.update(self.head, momentum)
        self.teacher_last_layer.update(self.last_layer, momentum)

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        yield from symptoms(logged["loss"], self.teacher_last_layer(rows["target"][:, 0]) - self.centre)
