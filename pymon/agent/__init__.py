"""The agent: an HTTP service on each compute node that answers scrapes of the node and its containers."""
