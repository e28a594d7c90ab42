"""What the steps cost, next to copying the same bytes: `python -m benchmarks`, docs/performance.md."""
