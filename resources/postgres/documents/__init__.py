"""Tables of documents, chunks and their history."""
