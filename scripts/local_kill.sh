#!/bin/sh
# Stop the drain that scripts/local_run.sh has started, after its last drain.
exec "$(dirname "$0")/../.venv/bin/python" -m codeferry_agent.drain.host.background stop
