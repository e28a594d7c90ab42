"""Simulated downlinks for tests and the demo, and programs that read them. Nothing here is flight data."""
