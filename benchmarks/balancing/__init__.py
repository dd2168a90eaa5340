"""What each balancer makes of endpoints that differ, in virtual time: python -m benchmarks.balancing."""
