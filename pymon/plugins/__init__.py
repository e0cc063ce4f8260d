"""Metrics of other programs: plugins of operators, and directories of text files."""
