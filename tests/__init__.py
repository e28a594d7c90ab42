"""Tests of the HalfPipe workflow."""
