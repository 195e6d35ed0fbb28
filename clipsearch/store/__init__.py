"""The index on disk: a catalogue in SQLite and a file of vectors for FAISS. Knows no model."""
