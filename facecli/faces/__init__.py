"""Where the faces are in an image, which of them counts, and its chip."""
