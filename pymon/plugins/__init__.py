"""Metrics of other programs: the operator's plugins, and directories of text files."""
