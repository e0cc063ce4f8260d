"""Names of containers in DNS: the records, the server that answers them, and their registration in other servers."""
