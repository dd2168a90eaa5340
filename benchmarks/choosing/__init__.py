"""What the choice of an endpoint costs: python -m benchmarks.choosing."""
