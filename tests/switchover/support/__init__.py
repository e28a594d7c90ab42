"""The legacy, modelled from its published scripts, and its harms to a hand-off."""
