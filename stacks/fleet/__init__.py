"""The fleet stack, and the files of an instance's first start."""
