"""HalfPipe: from a downlink of the Fermi Large Area Telescope to per-run event files for Level-1."""

__version__ = "0.1.0"
