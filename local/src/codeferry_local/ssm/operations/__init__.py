"""The operations of the API, a module per subject; each takes a request and returns an answer."""
