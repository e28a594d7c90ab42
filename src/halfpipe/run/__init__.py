"""The state of each run: its merged indexes, its deliveries, and the event files made from them."""
