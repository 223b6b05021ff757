"""Runs the agent's sources as fetch.py runs them, but from their files: launch.py WORKFLOW."""

import os
import sys
from pathlib import Path

sys.path.extend([str(Path(__file__).parents[3] / part / "src") for part in ("agent", "contracts")])

from codeferry_agent.run import execute

sys.exit(execute.main(sys.argv[1], os.environ))
