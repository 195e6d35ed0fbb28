"""A file to upright pixels and metadata. Knows no model and no index."""

DECODER = "--decoder"  # the standalone program starts itself with this argument to get a decoding process
