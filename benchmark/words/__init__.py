"""The words that a user types, as cells, as how to run them, and as what to evaluate. Imports no torch."""
