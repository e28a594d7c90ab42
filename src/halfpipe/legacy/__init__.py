"""The system before HalfPipe: takeover of its deliveries, and comparison with those of HalfPipe."""
