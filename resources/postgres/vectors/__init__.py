"""Tables of embeddings, vector rows and collections."""
