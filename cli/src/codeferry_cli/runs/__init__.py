"""Runs: started, followed, found, and what they leave read."""
