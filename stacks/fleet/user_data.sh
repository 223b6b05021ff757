#!/bin/bash
# The first start of a fleet instance. What decides anything is first_start.py, below.
set -u
export PATH="$PATH:/opt/aws/bin" # cfn-signal's place on Amazon Linux
work=$(mktemp -d)
cat >"$work/settings.json" <<'CODEFERRY_SETTINGS'
@@SETTINGS@@
CODEFERRY_SETTINGS
cat >"$work/first_start.py" <<'CODEFERRY_SOURCE'
@@SOURCE@@
CODEFERRY_SOURCE
# Shutting down terminates it (the launch template says so) and the group starts another one:
# an instance is whole or it is gone.
python3 "$work/first_start.py" "$work/settings.json" || shutdown -h now
rm -rf "$work"
