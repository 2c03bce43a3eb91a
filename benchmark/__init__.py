"""The engine and the command line: one cell from its settings to its record."""
