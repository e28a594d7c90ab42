"""The version of HalfPipe, which each receipt records."""

__version__ = "0.1.0"
