"""The permissions of every role."""
