"""A training step as CUDA graphs: its views, its gradient, and what can be recorded at all."""
