"""Pictures of runs and downlinks for people: what one sees at a glance."""
