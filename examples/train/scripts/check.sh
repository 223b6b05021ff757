#!/bin/sh
# What an instance has to train with; run it with: ferry script TARGET scripts/check.sh
set -eu
echo "python: $(python3 --version 2>&1)"
echo "limits: $(cat "$DEPLOY_FILES_DIR/limits.txt")"
echo "disk:   $(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) " GiB free" }')"
echo "note:   ${1:-none}"
