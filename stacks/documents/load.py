"""Run Codeferry's agent, whose sources are below; the description has their SHA-256."""

import base64
import bz2
import json
import linecache
import os
import sys
import types

WORKFLOW = "@@WORKFLOW@@"
SOURCES = """
@@SOURCES@@
"""
PACKAGE = "codeferry_agent.run"


def unpack(letters):
    """The sources by name, each after those that it imports."""
    letters = "".join(letters.split()).translate(str.maketrans(".,:/", "{<>&"))
    return json.loads(bz2.decompress(base64.b85decode(letters)))


def load(name, source):
    """Make a source a module of the package, with its own lines in tracebacks."""
    file, module = f"{name}.py", types.ModuleType(f"{PACKAGE}.{name}")
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    sys.modules[module.__name__] = module
    setattr(sys.modules[PACKAGE], name, module)
    exec(compile(source, file, "exec"), module.__dict__)  # noqa: S102


sys.modules[PACKAGE] = types.ModuleType(PACKAGE)
for each in unpack(SOURCES).items():
    load(*each)
sys.exit(sys.modules[PACKAGE + ".execute"].main(WORKFLOW, os.environ))
