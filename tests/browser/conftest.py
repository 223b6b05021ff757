"""A headless Chromium that looks at report pages."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import sync_playwright

from codeferry_lambdas.report_page import page as report_page

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Nothing of the browser's own may reach for the network, which these tests watch.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESK, PHONE = (1200, 900), (360, 740)


@pytest.fixture(scope="session")
def chromium():
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"There is no browser on PATH to look with: none of {', '.join(NAMES)}.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        yield browser
        browser.close()


@dataclass
class Seen:
    """An open page: what it asked for and what it complained about since."""

    page: object
    requests: list = field(default_factory=list)
    complaints: list = field(default_factory=list)

    def __getattr__(self, name):
        return getattr(self.page, name)

    def beyond(self):
        """Requests for anything that is not in the page."""
        return [url for url in self.requests if not url.startswith(("file:", "data:"))]


@pytest.fixture
def look(chromium, tmp_path):
    """``look(report, scheme="dark", size=PHONE)``: the report's page, loaded from a file."""
    contexts = []

    def at(report, *, scheme="light", size=DESK, scripts=True):
        path = tmp_path / f"report-{len(contexts)}.html"
        path.write_text(report_page.render(report), encoding="utf-8")
        context = chromium.new_context(
            color_scheme=scheme,
            viewport={"width": size[0], "height": size[1]},
            java_script_enabled=scripts,
        )
        contexts.append(context)
        seen = Seen(context.new_page())
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.on("console", lambda message: seen.complaints.append(message.text))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.goto(path.as_uri())
        return seen

    yield at
    for context in contexts:
        context.close()
