"""Views of images: policies as data, their parameters drawn per sample, and the batched transforms that apply them."""

from benchmark.augment.policies import Augmentation, Policy, describe, names, parse

__all__ = ["Augmentation", "Policy", "describe", "names", "parse"]
