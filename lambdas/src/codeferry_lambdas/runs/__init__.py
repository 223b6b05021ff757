"""A run from its plan to its report: the record in S3, the ledger, commands, outcomes."""
