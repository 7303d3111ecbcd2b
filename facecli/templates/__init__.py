"""From photographs to templates, and templates read and written."""
