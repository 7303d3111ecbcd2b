"""From files to pixels: finding photos and decoding them."""
