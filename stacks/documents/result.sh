#!/bin/sh
# Print the last line of a run that began a command. Where the first step was killed, the
# supervisor is still ending what it started: give it a few seconds while it lives.
line="${CODEFERRY_ROOT:-/opt/codeferry}/.results/{{ runId }}"
for second in 1 2 3 4 5 6 7 8 9 10; do
  [ -e "$line.working" ] || break
  supervisor=$(cat "$line.working" 2>/dev/null)
  [ -z "$supervisor" ] || kill -0 "$supervisor" 2>/dev/null || break
  sleep 1
done
[ ! -e "$line" ] || cat "$line"
