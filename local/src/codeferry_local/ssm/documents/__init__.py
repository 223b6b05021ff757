"""The documents of the local SSM: their versions, their content and its parameters."""
