"""The plan of a run: checked, pinned and within limits before anything is sent."""
