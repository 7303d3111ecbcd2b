"""Metric learning: from photos per person to a better network."""
