"""The contracts between the parts of Codeferry. Standard library only; no I/O."""
