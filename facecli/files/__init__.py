"""Files and folders on disk: whole or not at all, fetched, tabular, or arrays."""
