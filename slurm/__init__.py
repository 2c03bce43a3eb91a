"""A callable and a list of arguments to cluster jobs, through submitit: `jobs`. A real cluster to try it on: `testbed`.

Nothing of ours is imported here, so that either can be used, and tested, by itself.
"""
