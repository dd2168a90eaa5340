"""What tests need on the other side of the gateway's sockets: scripted upstreams and raw clients."""
