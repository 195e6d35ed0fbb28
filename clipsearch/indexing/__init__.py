"""Folders to an index that is up to date."""
