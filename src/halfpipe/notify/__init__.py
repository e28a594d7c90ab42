"""Telling Level-1 and Online that something is in the stage, once and no more."""
