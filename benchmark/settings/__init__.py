"""What a cell is: its settings as frozen dataclasses, their key, and presets of them. Imports no torch."""
