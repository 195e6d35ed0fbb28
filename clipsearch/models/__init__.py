"""Models: images and text to unit-length embeddings. Knows nothing of indexes."""
