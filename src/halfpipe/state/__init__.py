"""The state of runs and downlinks: what is recorded of their chunks, deliveries and hand-offs."""
