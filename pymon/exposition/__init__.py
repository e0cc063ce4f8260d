"""How numbers are written: formats, negotiation, compression."""
