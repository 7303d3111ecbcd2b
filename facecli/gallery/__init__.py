"""A database of people: enrolled from photos, searched, kept up to date."""
