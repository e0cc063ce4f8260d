"""The front of a data centre: authenticates tenants, authorises, limits, routes each scrape, answers discovery."""
