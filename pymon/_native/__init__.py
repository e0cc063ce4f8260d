"""The compiled modules: tables, renderer and kernel readers."""
