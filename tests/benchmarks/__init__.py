"""What the project claims of its speed, measured side by side. `python -m tests.benchmarks` (`make bench`) measures the
rows of `claims`, each by a module that also runs alone; `drift`, `recovery`, `unchanged` and `reachability` have tables
of their own and are run by hand.
"""
