"""`ferry s3`: its options, its places, its client, and s5cmd. Prints nothing."""
