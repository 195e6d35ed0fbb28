"""A file to upright pixels and metadata. Knows no model and no index."""
