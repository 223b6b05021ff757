"""Run a command or script: start, supervise, end, and keep its output."""
