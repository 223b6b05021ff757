"""The report of a run as one self-contained HTML page. Values in, text out.

The template escapes whatever it shows, and a policy in the page itself lets nothing run or
load but its own style and script: what an instance says stays text twice over.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup

from codeferry_contracts.report import Report
from codeferry_lambdas.page_content import content


def render(report: Report) -> str:
    """``runs/<run_id>/report.html``: HTML that encodes as UTF-8 whatever the report holds.

    2 MB at most for 1,000 instances and 12 MB for 10,000: long texts and long lists are cut,
    and the page says where.
    """
    return _template().render(
        page=content(report),
        style=Markup(_source("report.css")),  # noqa: S704 - our own file
        script=Markup(_source("report.js")),  # noqa: S704 - our own file
        policy=_policy(),
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_source("report.html"))


@cache
def _source(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text("utf-8")


@cache
def _policy() -> str:
    """The Content-Security-Policy. ``data:`` is the icon, which is in the page as well."""
    return (
        f"default-src 'none'; style-src {_digest('report.css')}; "
        f"script-src {_digest('report.js')}; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(name: str) -> str:
    digest = hashlib.sha256(_source(name).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
