"""Looking after a database: checking, repairing, cleaning, forgetting, moving in and out."""
