"""The archives of releases, their signatures, and the last good release of each target."""
