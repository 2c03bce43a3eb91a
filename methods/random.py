"""Random initialisation: the backbone as it starts, a reference point without training.

Batch norm runs on its untrained statistics (mean 0, variance 1). It is well above chance: a method that does not
beat it has learnt nothing.
"""

from methods.method import Method


class RandomInitialisation(Method):
    family = "reference"
    views = ()
    trains = False
    ignores = ("weights",)
