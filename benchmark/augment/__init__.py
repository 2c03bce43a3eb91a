"""Views of images: policies as data, their parameters drawn per sample, and the batched transforms that apply them."""

from benchmark.augment.augmentation import Augmentation, list_names, parse
from benchmark.augment.policies import Policy, describe

VIEW_NAMES = ("crop", "jigsaw", "grid")  # the views that a method may ask for; `training.batches` makes them

__all__ = ["VIEW_NAMES", "Augmentation", "Policy", "describe", "list_names", "parse"]
