"""The HTTP server of the agent and the proxy: listening, limits before the first request, replies, passwords."""
