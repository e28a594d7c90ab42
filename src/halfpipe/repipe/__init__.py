"""A run processed once more on its own, and RetDefs made from the level-0 archive."""
