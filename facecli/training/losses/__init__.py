"""Losses and miners, and the geometry that they share."""
