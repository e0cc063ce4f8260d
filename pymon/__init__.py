"""pymon: a container monitor that measures every container of a node from outside."""

__version__ = "0.1.0"
