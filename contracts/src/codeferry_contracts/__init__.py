"""What the parts of Codeferry agree on. Standard library only; no I/O."""
