"""A run's instances: the target resolved, what cannot be reached, batches and waves."""
