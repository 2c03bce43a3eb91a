"""Summaries as tables of text: markdown, LaTeX, CSV, and the terminal."""
