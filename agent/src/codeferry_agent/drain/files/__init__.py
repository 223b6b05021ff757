"""The files below a root: listed, opened, claimed and deleted, and the state kept about them."""
