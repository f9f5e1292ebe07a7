"""Office files: read here, or rewritten so that kreuzberg loses, doubles and glues nothing."""
