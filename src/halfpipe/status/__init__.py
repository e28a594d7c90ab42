"""How downlinks and the site stand: causes, checks, failures, and why events wait."""
