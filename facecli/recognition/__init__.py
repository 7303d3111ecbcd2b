"""Decisions: the same person or not, and who this is."""
