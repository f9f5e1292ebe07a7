"""Benchmarks of the project's claims about speed. `python -m tests.benchmarks` (`make bench`) measures the rows of
`claims`, each with a module that also runs alone. The others run by hand and print their own tables: `drift`,
`embedded_peers`, `growth`, `quality_faults`, `reachability`, `recovery`, `retrieval`, `search_load` and `unchanged`.
"""
