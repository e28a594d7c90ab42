"""What is kept of a run, by run: its index, its deliveries, and the event files that come of them."""
