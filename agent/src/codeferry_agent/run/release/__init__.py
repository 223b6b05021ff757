"""Apply a release: download, unpack, verify, switch, prune, roll back."""
