"""The Lambdas of the workflow: a module of ``handlers`` for each state, which calls the rest."""
