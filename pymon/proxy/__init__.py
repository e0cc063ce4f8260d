"""The proxy of a data centre: authenticates tenants, authorizes and limits requests, relays scrapes to agents, and
answers discovery.
"""
