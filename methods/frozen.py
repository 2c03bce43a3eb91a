"""Frozen: a backbone evaluated as it comes, with `weights=timm` or `weights=FILE`; a reference point.

What another training made, measured by the same protocol: timm's pretrained weights, or a file of them.
"""

from methods.method import Method


class Frozen(Method):
    views = ()
    family = "reference"
    trains = False
    ignores = ("seed",)
