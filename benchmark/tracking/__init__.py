"""What a cell tells Weights & Biases; nothing here can fail a cell. Imports no torch."""
