"""What the numbers are measured on, in notes below a table, and where they mislead: unequal classes, few references."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from results.frames import labels
from results.quantity import quantify

IMBALANCED = 1.5  # times an equal share: with a larger class, tables show balanced accuracy beside top-1
_NEIGHBOURS = (20, 200)


def are_imbalanced(summary: pd.DataFrame) -> bool:
    """Whether the largest class of some test set has more than `IMBALANCED` times an equal share of the images."""
    return bool((summary["test.largest_class"] * summary["test.classes"] > IMBALANCED).any())


def describe(summary: pd.DataFrame) -> list[str]:
    """A line on each dataset's test images, and one on each k that is no less than the references; none
    where no record says so."""
    lines = []
    for where, (images, classes, largest) in _find_distinct(summary, ["images", "classes", "largest_class"]):
        line = f"{where}{quantify(round(images), 'test image')}; largest class {100 * largest:.1f} %"
        if largest * classes > IMBALANCED:
            line += f", above {IMBALANCED} times an equal share of {100 / classes:.1f} %: always predicting it would "
            line += "give that top-1, so balanced accuracy, the mean of per-class recall, stands beside it"
        lines.append(line)
    for k in _NEIGHBOURS:
        measured = summary[summary.reindex(columns=[f"metrics.knn{k}_top1.n"]).iloc[:, 0] > 0]
        for where, (references,) in _find_distinct(measured, ["references"]):
            if references <= k:
                lines.append(f"{where}kNN-{k}: only {quantify(round(references), 'reference')}, all of them vote")
    return lines


def _find_distinct(summary: pd.DataFrame, names: list[str]) -> Iterator[tuple[str, list[float]]]:
    """The values that each dataset has of `test.*`, once; before them "dataset: " where the table has several, with its
    protocols where it has several values."""
    columns = [f"test.{name}" for name in names]
    table = summary.reindex(columns=["dataset.name", "protocol", *columns])
    table["dataset.name"] = table["dataset.name"].map(labels.format_value)
    several = table["dataset.name"].nunique() > 1
    complete = table.dropna(subset=columns)
    for dataset, part in complete.groupby("dataset.name", sort=False):
        groups = part.groupby(columns, sort=False)
        for _, equal in groups:
            protocols = f"protocol {', '.join(equal['protocol'].str[:8].unique())}" if groups.ngroups > 1 else ""
            where = ", ".join(filter(None, [str(dataset) if several or protocols else "", protocols]))
            yield f"{where}: " if where else "", equal[columns].iloc[0].tolist()
