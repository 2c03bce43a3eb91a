"""Where the time goes: a training step in its parts, and each part beside what it replaces, one question a file.

`python -m benchmark profile` times steps; `python -m benchmark.profiling.NAME` a part. Contestants run in one process
on the same data and threads, in turns; see `timing.py`.
"""
