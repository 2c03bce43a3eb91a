"""Views of images: policies as data, their parameters drawn per sample, and the batched transforms that apply them."""

from benchmark.augment.augmentation import Augmentation, list_names, parse
from benchmark.augment.policies import Policy, describe

__all__ = ["Augmentation", "Policy", "describe", "list_names", "parse"]
