"""The operations of the local SSM's API and its control endpoint, served over HTTP."""
