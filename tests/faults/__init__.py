"""Tests that do harm to the workflow, or run it twice at once, and look at what is left."""
