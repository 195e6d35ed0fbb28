"""Pixels and texts to unit rows. Knows no index."""
