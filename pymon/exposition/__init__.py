"""Exposition formats: writing and parsing them, content negotiation, compression."""
