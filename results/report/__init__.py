"""The report's folder and page, its answer in words, and the same as a report on W&B."""
