"""Sources: read kernel files, call the kernel, run programs, and fill tables. Metric names are not known here."""
