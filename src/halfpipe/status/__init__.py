"""The state of downlinks and of the site: causes, checks, failures, and why events wait."""
