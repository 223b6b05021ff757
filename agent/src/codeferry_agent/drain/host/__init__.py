"""The host of the agent: its environment, its watchers, its end."""
