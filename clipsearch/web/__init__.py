"""The page: an index to look at in a browser, on the same search, for the owner of this machine alone."""
