"""Published numbers with their sources, and whether ours agree with them."""
