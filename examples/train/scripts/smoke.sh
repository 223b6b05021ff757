#!/bin/sh
# A minute's sanity check on an instance.
exec python3 "$(dirname "$0")/../train.py" --epochs 20
