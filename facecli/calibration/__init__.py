"""Thresholds with the error rates they were chosen for: fitted, kept, and applied."""
