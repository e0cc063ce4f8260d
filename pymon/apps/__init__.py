"""Fetching the metrics of applications from inside the network namespaces of their containers."""
