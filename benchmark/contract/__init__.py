"""The contract of a method, run on any of them through short trainings."""
