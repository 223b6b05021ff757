"""Build codeferry-agent.pyz: ``python scripts/build_agent.py [OUTPUT]``."""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
runpy.run_module("bootstrap.agent", run_name="__main__")
