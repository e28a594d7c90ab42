"""Stories: random sequences of steps at a site, each step checked against the story's own books."""
