"""Re-pipes: processing one run again on its own, with RetDefs made from the level-0 archive."""
