"""Runs a proxy with its DNS server. This package imports proxy and dns, which do not import each other."""
