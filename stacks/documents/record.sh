#!/bin/sh
# Print what is recorded of a run: the last line of one that began a command, else the record.
# Where its first step was killed, the supervisor is still ending what it started.
root="${CODEFERRY_ROOT:-/opt/codeferry}"
line="$root/.results/{{ runId }}"
for second in 1 2 3 4 5 6 7 8 9 10; do
  [ -e "$line.working" ] || break
  supervisor=$(cat "$line.working" 2>/dev/null)
  [ -z "$supervisor" ] || kill -0 "$supervisor" 2>/dev/null || break
  [ "$second" -lt 10 ] || echo 'It still runs.'
  sleep 1
done
for record in "$line" "$root/{{ project }}/runs/{{ runId }}.json" \
  "$root/.scripts/runs/{{ runId }}.json"; do
  [ ! -e "$record" ] || { head -c 2300 "$record"; echo; exit 0; }
done
echo 'No record.'
