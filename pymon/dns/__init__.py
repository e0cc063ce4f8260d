"""Container names in DNS: the records, the server that answers for them, and their registration in other servers."""
