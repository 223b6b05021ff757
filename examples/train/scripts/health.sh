#!/bin/sh
# Whether this release can do its work here: its modules load, and the machine is not known ill.
if [ -e "$CODEFERRY_ROOT/ill" ]; then
  echo "this machine is ill: $(cat "$CODEFERRY_ROOT/ill")"
  exit 1
fi
exec python3 -B -c 'import training.model, training.samples'
