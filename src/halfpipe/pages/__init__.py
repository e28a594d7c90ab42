"""Pictures of runs and downlinks, and the board: pages that change nothing."""
