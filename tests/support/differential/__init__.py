"""A differential run: two commits of the gateway get the same input, and their output is compared.

`cases` generates the input, `scenes` plays a case against one gateway, `sides` starts a gateway with its upstreams,
`sameness` removes the values that must differ, and `__main__` runs the whole and prints the differences.

Nothing here imports the gateway: both commits run as processes, each in its own folder.
"""
