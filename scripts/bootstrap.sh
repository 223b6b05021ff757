#!/bin/sh
# From nothing to a deployed stage: scripts/bootstrap.sh --project NAME --region R [--model-path P]
# Everything that decides is in the package bootstrap; this only makes sure that it can run.
set -eu
cd "$(dirname "$0")/.."
if [ ! -x .venv/bin/python ]; then
    make setup
fi
exec .venv/bin/python -m bootstrap "$@"
