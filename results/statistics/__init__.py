"""Means and intervals over seeds, paired tests, ranks, and which configurations may be compared at all."""
