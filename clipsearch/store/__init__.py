"""The index on disk: a catalogue in SQLite and segments of vectors. Knows no model."""
