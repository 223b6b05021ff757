"""Contracts between the parts of Codeferry. Standard library only; no I/O."""
