"""Benchmarks of depthwise against other libraries, run from the root of the repository.

python -m benchmarks.run        the rows on every peer, as a table and JSON
python -m benchmarks.overhead   what a call costs when there is next to nothing to compute
python -m benchmarks.scaling    several threads against one
python -m benchmarks.report     tables and plots in the documentation, from the JSON
"""
