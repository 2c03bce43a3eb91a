"""iBOT: Image BERT Pre-Training with Online Tokenizer (arXiv:2111.07832).

DINO (see `dino.py`), and masked patches: of each large view the student sees half of the time only a part, with a
learned token in place of the hidden patches, and has to say what distribution the teacher, who sees all of it, gives
each hidden patch. One head is for views and patches (as in the commands that the authors publish), with a centre each;
the patches' centre follows the mean over all of them, hidden or not. The loss is the sum of DINO's and the patches', in
which a view's hidden patches count as one, and a view without any as 0.

Hidden are single patches, floor(share x L) of them (the code's `pred_shape rand`; its commands hide blocks, as BEiT).
A view's feature is what the backbone pools, its class token by default. Small crops are never masked. The authors' rate
ends at 1e-6, ours at 0, and their stochastic depth of 0.1 is left out; `weight_decay_end` is their growing decay. What
is evaluated is the student; the authors evaluate the teacher (`evaluations=teacher,tokens` adds theirs).
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, cat, nn
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts import crops
from methods.parts.chance import Chance
from methods.parts.distil import LastLayer, bottleneck, clip_and_freeze, distillation, symptoms, warm_up
from methods.parts.heads import MomentumCopy, growing, normalise
from methods.parts.tokens import embed, encode, grid_of_used, pick, project, require_several

LEAST, MOST = 0.1, 0.5  # share of a view's patches that is hidden, where any is (authors' commands: 0.3 +- 0.2)
UNMASKED = 0.5  # share of the views that are seen whole (authors' commands: a ratio of 0 or of 0.3)


class IBOT(Method):
    family = "no_negatives"
    views = ("crop", "crop")
    momentum_encoder = "teacher_encoder"
    multicrop = True
    read_with = {"teacher_temperature_start": ("teacher_warmup",)}  # noqa: RUF012
    sized = True
    tokens = True
    recommends = {"optimiser": "adamw"}  # noqa: RUF012
    search_space = {  # noqa: RUF012
        "teacher_temperature": ("0.04", "0.05", "0.06", "0.07"),  # 0.04 and 0.07 in the authors' code
        "momentum": ("0.9", "0.99", "0.996", "0.9995"),  # 0.996 and 0.9995 in the authors' code; less: short trainings
        "prototypes": ("x0.5", "x1", "x2"),  # ours: about the preset's
    }

    @dataclass(frozen=True)
    class Config:
        temperature: float = 0.1  # tau_s of the student (authors' code, as all below)
        teacher_temperature: float = 0.07  # tau_t behind its warm-up, for views and patches
        teacher_temperature_start: float = 0.04  # tau_t in the first epoch
        teacher_warmup: int = 30  # epochs in which it grows
        momentum: float = 0.996  # m at the start, growing to 1 by half a cosine (0.9995 at batch 256)
        centre_momentum: float = 0.9  # share of each centre that stays
        prototypes: int = 8192  # K, outputs
        norm_last_layer: bool = False  # the last layer's weights stay of unit length (true for ViT-B)
        freeze: int = 1  # epochs in which the last layer stays as it starts
        clip: float = 3.0  # most norm of each tensor's gradient; 0 clips none
        head_layers: int = 3  # of the head before the last layer
        head_hidden: int = 2048  # width of its hidden layers
        head_dim: int = 256  # width of the bottleneck z
        head_norm: bool = False  # batch norm behind its hidden layers (`norm_in_head`)

        def __post_init__(self) -> None:
            if min(self.temperature, self.teacher_temperature, self.teacher_temperature_start) <= 0:
                raise ValueError("temperature, teacher_temperature and teacher_temperature_start must be above 0")
            if not (0 <= self.momentum <= 1 and 0 <= self.centre_momentum <= 1):
                raise ValueError("momentum and centre_momentum must be between 0 and 1")
            if min(self.teacher_warmup, self.freeze, self.clip) < 0:
                raise ValueError("teacher_warmup, freeze and clip must be at least 0")
            if self.prototypes < 2 or min(self.head_layers, self.head_hidden, self.head_dim) < 1:
                raise ValueError("prototypes must be at least 2, head_layers, head_hidden and head_dim at least 1")

    centre: Tensor  # (K,) of the teacher's logits of views
    patch_centre: Tensor  # (K,) of those of patches

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int, size: int) -> None:
        super().__init__(config, encoder, width, images)
        side, _, self.prefix = grid_of_used(encoder, size, pooled=True)
        self.patches = side**2  # L
        require_several(self.patches, size)
        # Of one dimension, so that it does not decay; the authors' has two, and does.
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.head = bottleneck(width, config.head_hidden, config.head_dim, config.head_layers, config.head_norm)
        self.last_layer = LastLayer(config.head_dim, config.prototypes, config.norm_last_layer)
        self.teacher_encoder = MomentumCopy(encoder)
        self.teacher_head = MomentumCopy(self.head)
        self.teacher_last_layer = MomentumCopy(self.last_layer)
        self.register_buffer("centre", torch.zeros(config.prototypes))
        self.register_buffer("patch_centre", torch.zeros(config.prototypes))
        self.chance = Chance()

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        large, small = cat(batch.views[:2]), batch.views[2:]  # first all images' first view, then all second
        order, counts = self.masks(batch.index, at.step)
        feature, tokens = self.encode(self.encoder, large, order.argsort(dim=1) < counts[:, None])
        z = normalise(self.head(cat([feature, *([crops.encode(self.encoder, small)] if small else [])])))
        with torch.no_grad():
            feature, seen = self.encode(self.teacher_encoder.network, large)
            target, each = normalise(self.teacher_head(feature)), project(self.teacher_head, seen)
        some = order[:, : int(MOST * self.patches)]  # as many of each view, of which those that are not hidden count 0
        error = self.patch_errors(project(self.head, pick(tokens, some)), pick(each, some), at)
        hidden = torch.arange(some.shape[1], device=counts.device) < counts[:, None]
        patch = (error * hidden).sum(dim=1) / counts.clamp(min=1)
        return {
            "z": crops.by_image(z, len(batch.views)),  # (n, V, D)
            "target": crops.by_image(target, 2),  # (n, 2, D)
            "patch": crops.by_image(patch, 2).mean(dim=1),  # (n,)
            "patch_target": crops.by_image(each.mean(dim=1), 2).mean(dim=1),  # (n, D), as logits are linear in z
        }

    def encode(self, encoder: Any, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, width) the pooled feature of x (n, 3, H, W), (n, L, width) its patches, some of them `hidden` (n, L)."""
        t = encode(encoder, embed(encoder, x, hidden, self.mask_token))
        return encoder.forward_head(t), t[:, self.prefix :]

    def masks(self, index: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(2 n, L) the patches of both views in a random order, (2 n,) how many of them, from the first, are hidden."""
        u = self.chance.uniform(index, step, 2, 2 + self.patches).transpose(0, 1).flatten(0, 1)
        share = (LEAST + u[:, 1] * (MOST - LEAST)) * (u[:, 0] > UNMASKED)
        return u[:, 2:].argsort(dim=1), (share * self.patches).long()

    def patch_errors(self, student: Tensor, teacher: Tensor, at: Progress) -> Tensor:
        """Cross-entropy (n, k) of patches' bottlenecks (n, k, D). A low temperature needs exact logits: no autocast."""
        with nullcontext() if student.is_meta else torch.autocast(student.device.type, enabled=False):
            log_p = F.log_softmax(self.last_layer(student) / self.config.temperature, dim=2)
            logits = self.teacher_last_layer(teacher) - self.patch_centre
            return -(F.softmax(logits / self.teacher_temperature(at), dim=2) * log_p).sum(dim=2)

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        student, teacher = self.last_layer(rows["z"]), self.teacher_last_layer(rows["target"])
        tau, tau_t = self.config.temperature, self.teacher_temperature(at)
        of_views = distillation(student, teacher, self.centre, tau, tau_t)
        of_patches = rows["patch"].mean()
        return {"loss": of_views + of_patches, "loss_views": of_views, "loss_patches": of_patches}

    def teacher_temperature(self, at: Progress) -> float:
        config = self.config
        start, end = config.teacher_temperature_start, config.teacher_temperature
        return warm_up(start, end, config.teacher_warmup, at.epoch)

    def phase(self, at: Progress) -> float:
        return self.teacher_temperature(at)

    def after_backward(self, at: Progress) -> None:
        clip_and_freeze(self, self.config.clip, self.last_layer if at.epoch < self.config.freeze else None)

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        for centre, z in ((self.centre, rows["target"].mean(dim=1)), (self.patch_centre, rows["patch_target"])):
            mean = self.teacher_last_layer(z).mean(dim=0)
            centre.lerp_(mean.to(centre.dtype), 1 - self.config.centre_momentum)
        momentum = growing(self.config.momentum, at.step, at.steps)
        self.teacher_encoder.update(self.encoder, momentum)
        self.teacher_head.update(self.head, momentum)
        self.teacher_last_layer.update(self.last_layer, momentum)

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        yield from symptoms(logged["loss_views"], self.teacher_last_layer(rows["target"][:, 0]) - self.centre)
