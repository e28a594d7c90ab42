"""Stories: what happens to a site in random order, with checks after each step and books of the story's own."""
