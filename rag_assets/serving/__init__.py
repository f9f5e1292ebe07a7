"""The HTTP service: routes translate, use-cases of the other rooms decide."""
