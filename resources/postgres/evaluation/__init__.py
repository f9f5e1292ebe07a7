"""Tables of retrieval sets and evaluations."""
