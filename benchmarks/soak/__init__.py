"""Whether memory stays flat under mixed load with aborts: python -m benchmarks.soak."""
