"""Cost of each step, compared with copying the same bytes: `python -m benchmarks`, docs/performance.md."""
