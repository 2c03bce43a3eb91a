"""One training: batches, engine, batch norm, optimisers, the loop and its checkpoints. Knows no record of a cell."""
