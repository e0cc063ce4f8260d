"""What the agent and the proxy share of serving HTTP: listening, the gate before it, answers, passwords."""
