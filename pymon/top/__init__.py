"""``pymon top``: the containers of a node or of an account in a terminal, from ``/v1/summary``."""
