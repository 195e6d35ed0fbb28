"""A question to ranked photos, labels, groups or figures: one file for each kind of question."""
