#!/bin/sh
# Start a drain in the background: scripts/local_run.sh -d output/s3 [options of drain].
# One at a time; log and PID file are in ~/.local/state/codeferry-drain.
exec "$(dirname "$0")/../.venv/bin/python" -m codeferry_agent.drain.host.background start "$@"
