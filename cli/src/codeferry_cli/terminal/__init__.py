"""Output for people: lines, tables, progress, and what they show."""
