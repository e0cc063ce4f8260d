"""The directory: accounts, their credentials and quotas, and the compute nodes; in SQLite or PostgreSQL."""
