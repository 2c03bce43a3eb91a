"""How fast the parts are beside what they replace: one question a file, each run as `python -m benchmark.speed.NAME`.

Both contestants run in one process on the same data and threads, in turns; see `benchmark/timing.py`.
"""
