"""Simulated downlinks for tests and the demonstration, and the programs that read them. Nothing here is flight data."""
