"""The suite that others run: each case with its floor and its peers in one run, as JSON, a table and charts."""
