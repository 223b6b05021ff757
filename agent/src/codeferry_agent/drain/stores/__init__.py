"""Where files go: what the drain needs of a store, S3 and a directory."""
