#!/bin/sh
# Find a Python fit for the agent and hand it the payload; everything else is decided there.
export CODEFERRY_RUN_ID='{{ runId }}' CODEFERRY_PAYLOAD='{{ payload }}'
export CODEFERRY_AGENT_URL='{{ agentUrl }}'
# @@TRUST@@
for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 \
  /usr/libexec/platform-python; do
  "$python" -ISc 'import zlib, sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null || continue
  exec "$python" -I -X utf8 - <<'CODEFERRY_END_OF_SOURCE'
@@SOURCE@@
CODEFERRY_END_OF_SOURCE
done
echo '{"codeferry_result": 1, "run_id": "{{ runId }}", "status": "failed", "error": {"code":' \
  '"python_missing", "message": "The instance has no Python 3.9 or newer.",' \
  '"hint": "Install python3 (3.9 or newer) on the instance."}}'
exit 1
