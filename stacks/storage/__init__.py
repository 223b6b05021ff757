"""The buckets and the table that releases, records and outputs are kept in."""
