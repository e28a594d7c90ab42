"""What a tree of the legacy holds, what of it has to be copied, and whether a copy is whole."""
