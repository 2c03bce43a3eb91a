"""A live page of a folder of cells, on this machine alone: a room between `cli`, which starts it, and `cells` and
`launch`, which say how cells are. May import what only reads."""
