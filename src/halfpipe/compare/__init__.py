"""What was delivered here beside what another system delivered: the same events, or why not."""
