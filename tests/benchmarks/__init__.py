"""What the project claims of its speed, measured side by side. `python -m tests.benchmarks` (`make bench`) measures the
rows of `claims`, each by a module that also runs alone. Run by hand: `drift`, `reachability`, `recovery`, `retrieval`,
`search_load` and `unchanged`, which have tables of their own.
"""
