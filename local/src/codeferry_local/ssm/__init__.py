"""SSM Run Command on this machine: an HTTP server that really executes documents."""
