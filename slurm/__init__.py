"""A callable and a list of cells to cluster jobs, through submitit. Nothing of ours is imported here.

The fan-out to SLURM is not part of this version: `launcher=slurm` says so. The package is listed so that the
layout, and the test that keeps its imports apart, stand from the first release.
"""
