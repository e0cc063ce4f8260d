"""Names of the directory's files in a data directory."""

DIRECTORY_FILE = "directory.db"
AUTHORITY_FOLDER = "authority"
"""The authority of tenants. In old data directories it is the only authority."""

MACHINES_FOLDER = "authority-machines"
