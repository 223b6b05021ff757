"""The permissions of every role as data, each with its reason, and what reads them."""
