"""Deploy a first stage from a laptop: the package behind scripts/bootstrap.sh."""
