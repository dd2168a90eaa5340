"""A gateway to look at without having a service: python -m tornado_gateway --demo."""
