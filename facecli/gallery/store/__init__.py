"""The templates of a database on disk, and exact search in them."""
