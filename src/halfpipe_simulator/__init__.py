"""Simulated downlinks for tests and the demonstration. Nothing here is flight data."""
