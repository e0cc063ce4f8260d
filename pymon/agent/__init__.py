"""The service of a compute node: it answers scrapes of its containers and of itself."""
