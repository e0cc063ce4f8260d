"""The directory: accounts, their credentials and quotas, and the compute nodes. It is in SQLite or PostgreSQL."""
