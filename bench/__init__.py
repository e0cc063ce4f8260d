"""Benchmarks: ratios of one run, against a floor in C or against a peer."""
