"""k-means on the device, in tiles, the same on every rank: sums are taken in a fixed order, starts come from one seed.

Shapes: N rows, K clusters, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TILE = 2**24  # similarities in memory at once


@torch.no_grad()
def kmeans(x: Tensor, clusters: int, iterations: int, spherical: bool, starts: int = 1) -> tuple[Tensor, Tensor]:
    """(centroids (K, D), the cluster of each row (N,) int64) of rows x (N, D), drawn starts from torch's seed.

    `spherical`: rows and centroids are compared by inner product and centroids are kept at unit length (DeepCluster-v2
    in SwAV's appendix); otherwise Lloyd's algorithm in the Euclidean metric. An empty cluster keeps its centroid. Of
    several `starts` the one with the least distance of rows to their centroids is returned.
    """
    tries = [_lloyd(x, clusters, iterations, spherical) for _ in range(starts)]
    return min(tries, key=lambda found: float((x - found[0][found[1]]).square().sum()))


def _lloyd(x: Tensor, clusters: int, iterations: int, spherical: bool) -> tuple[Tensor, Tensor]:
    # On the CPU, so that every device starts alike; with fewer rows than clusters some rows start two.
    chosen = torch.randperm(len(x))[torch.arange(clusters) % len(x)]
    centroids = x[chosen.to(x.device)].clone()
    for _ in range(iterations):
        assigned = nearest(x, centroids, spherical)
        means, counts = mean_by_cluster(x, assigned, clusters)
        if spherical:
            means = F.normalize(means, dim=1)
        centroids = torch.where(counts[:, None] > 0, means, centroids)
    return centroids, nearest(x, centroids, spherical)


def nearest(x: Tensor, centroids: Tensor, spherical: bool) -> Tensor:
    """(N,) the centroid of largest inner product with each row, or of smallest Euclidean distance."""
    # |x - c|^2 = |x|^2 - 2 (x.c - |c|^2 / 2)
    half = torch.zeros_like(centroids[:, 0]) if spherical else centroids.square().sum(dim=1) / 2
    size = max(1, TILE // len(centroids))
    return torch.cat([(part @ centroids.T - half).argmax(dim=1) for part in x.split(size)])


def mean_by_cluster(x: Tensor, assigned: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """(means (K, D), 0 where there are no members; counts (K,)) of the rows x (N, D) of each cluster.

    Rows are sorted by cluster and summed in order: `index_add` adds in any order on a GPU, and ranks would differ.
    """
    counts = torch.bincount(assigned, minlength=clusters)
    order = assigned.argsort(stable=True)
    sums = torch.segment_reduce(x[order], "sum", lengths=counts, axis=0, unsafe=True)
    return sums / counts.clamp(min=1)[:, None].to(x.dtype), counts
