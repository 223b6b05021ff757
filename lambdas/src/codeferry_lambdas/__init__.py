"""The Lambdas of the workflow: one module with a ``handler`` per state, the rest beside them."""
