"""The report page: values in, HTML out, read back as a browser would read it."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeferry_contracts.escaping import as_drawn
from codeferry_contracts.report import Report
from codeferry_lambdas.report_page import page, timeline
from codeferry_lambdas.report_page.text import visible
from tests.browser.reports import (
    DISK_FULL,
    HOSTILE,
    TRACEBACK,
    failed,
    failed_run,
    fleet,
    hostile,
    outcome,
    ran,
    report,
    roll_out,
    skipped,
)

VOID = {"meta", "link", "input", "rect", "line"}
MEGABYTE = 1_000_000


class Page(HTMLParser):
    """The elements of a page with their attributes and their own text; well-formed or bust."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = (tag, dict(attrs), [""])
        self.elements.append(element)
        if tag not in VOID or tag == "rect":
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), [""]))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for _, _, text in self._open:
            text[0] += data

    def all(self, tag: str, class_: str = "") -> list[tuple[dict[str, str | None], str]]:
        return [
            (attributes, text[0])
            for name, attributes, text in self.elements
            if name == tag and (not class_ or class_ in (attributes.get("class") or "").split())
        ]

    def texts(self, tag: str, class_: str = "") -> list[str]:
        return [" ".join(text.split()) for _, text in self.all(tag, class_)]

    @property
    def text(self) -> str:
        return self.texts("body")[0]


def rendered(made: Report) -> Page:
    return Page(page.render(made))


def rows(shown: Page) -> list[tuple[str, ...]]:
    """The table of instances: the words of each cell."""
    cells = [" ".join(text[0].split()) for tag, _, text in shown.elements if tag in ("th", "td")]
    return [tuple(cells[start : start + 5]) for start in range(5, len(cells), 5)]


def test_the_heading_says_what_ran_where_and_how_it_went() -> None:
    """Status, run, project, target, command, start and duration are on top."""
    shown = rendered(failed_run())
    header = shown.texts("header")[0]
    assert shown.texts("h1") == ["demo to gpu-workers"]
    for said in (
        "✕ Failed",
        "9 of 12 instances succeeded.",
        "sync on prod",
        "20261112-093000-demo-4f1c22aa",
        "2026-11-12 09:30:00 UTC",
        "27.4 s",
    ):
        assert said in header
    assert shown.texts("pre", "command") == [
        """python3 training/train.py --epochs 10 --note 'it'"'"'s'"""
    ]


def test_a_success_has_no_section_about_errors() -> None:
    """Three of three: no reason, no error, no warning; verification and cost are there."""
    shown = rendered(report())
    assert shown.texts("h2") == ["Fleet", "Timeline", "Instances", "Verification", "Cost"]
    assert "3 of 3 instances succeeded." in shown.text
    assert "2,113 files, 18.4 MB" in shown.text
    assert "$0.00047 at list price" in shown.text


def test_a_run_that_reached_nobody_is_a_page_too() -> None:
    """A failed plan: the error, its hint, its code and phase, and nothing about instances."""
    error = {"code": "no_instances", "message": "None.", "hint": "Start one.", "phase": "plan"}
    nothing: dict[str, Any] = {"archive": None, "verification": None, "cost": None}
    shown = rendered(report([], status="FAILED", error=error, **nothing))
    assert shown.texts("h2") == ["Why it failed"]
    assert "None. Start one. no_instances in plan" in shown.text
    assert "The run ended before it reached an instance." in shown.text


def test_a_cancelled_run_says_so() -> None:
    """Cancelled is not failed."""
    error = {"code": "cancelled", "message": "The run was stopped.", "hint": ""}
    shown = rendered(report([skipped()], status="CANCELLED", error=error))
    assert "– Cancelled" in shown.text
    assert "Why it was cancelled" in shown.text


def test_the_grid_has_a_cell_for_every_instance_in_the_plans_order() -> None:
    """Each cell has its outcome as a class and says on hover whose it is."""
    shown = rendered(report([outcome(0), failed(1), skipped(2)]))
    (grid,) = shown.all("div", "grid")
    cells = [cell for cell, _ in shown.all("i", "cell") if "title" in cell]
    assert [cell["class"] for cell in cells] == ["cell succeeded", "cell failed", "cell skipped"]
    assert (cells[1]["title"] or "").endswith("gpu-01 disk full")
    assert (grid[0]["aria-label"] or "").startswith("1 succeeded, 1 failed, 1 skipped")


def test_a_roll_out_has_its_waves_apart() -> None:
    """Each wave has its own cells and what became of it; who was in none stands by itself."""
    shown = rendered(roll_out(12))
    assert shown.texts("h3") == [
        "Wave 1 ✓ 1 instance has the release",
        "Wave 2 ✕ failed on 1 of 5 instances, and the release before is back",
        "Wave 3 – 6 instances untouched",
        "In no wave ✕ 1 instance could not be reached",
    ]
    grids = [(a["aria-label"] or "").split(";")[0] for a, _ in shown.all("div", "grid")]
    assert grids[1:3] == [
        "Wave 2: 0 succeeded, 1 failed, 4 returned, 0 skipped",
        "Wave 3: 0 succeeded, 0 failed, 6 skipped",
    ]
    cells = [cell for cell, _ in shown.all("i", "cell") if "title" in cell]
    kinds = [(cell["class"] or "").split()[1] for cell in cells]
    back, left = ["failed", *["returned"] * 4], ["skipped"] * 6
    assert kinds == ["succeeded", *back, *left, "failed"]
    assert "wave 2 health failed, returned exit code 1" in (cells[1]["title"] or "")


def test_a_roll_out_says_how_it_asked_and_who_went_back() -> None:
    """The health command, how long instances were left alone, the run that returned the wave;
    in the table the wave of each, and the release that it has now."""
    shown = rendered(roll_out(12))
    fleet_section = shown.texts("section", "fleet")[0]
    for said in ("curl -fsS http://localhost:8080/health", "5.0 s", "back-20261112-093000"):
        assert said in fleet_section
    cells = [" ".join(text[0].split()) for tag, _, text in shown.elements if tag in ("th", "td")]
    table = [tuple(cells[start + 1 : start + 5]) for start in range(6, len(cells), 6)]
    assert table[0] == ("2", "✕ health failed, returned", "exit code 1", "b015f7af66ec")
    assert table[1] == ("", "✕ agent offline", "", "")
    assert table[2] == ("2", "↩ returned with its wave", "", "b015f7af66ec")
    assert table[6] == ("3", "– untouched", "", "")
    assert table[-1] == ("1", "✓ applied", "", "4be1c0d2a97f")
    bars = [text for text in shown.texts("li") if text.startswith(("✓", "✕", "↩"))]
    assert bars[0].startswith("✕")
    assert "gpu-01 wave 2" in bars[0]


def test_a_roll_out_that_went_well_shows_its_waves_too() -> None:
    """And without a health command nothing is said of one."""
    made = report([outcome(n, wave=n + 1) for n in range(2)])
    made["rollout"] = {
        "waves": [{"instances": 1, "succeeded": 1, "status": "done"}] * 2,
        "bake_seconds": 0,
        "health": [],
        "rollback": "",
    }
    shown = rendered(made)
    assert shown.texts("h3") == [f"Wave {n} ✓ 1 instance has the release" for n in (1, 2)]
    assert "Health command" not in shown.text


def test_the_table_has_the_failed_first() -> None:
    """Failed, skipped, succeeded; with result, how the command ended, release and time."""
    ended = outcome(2, ran=ran())
    shown = rows(rendered(report([ended, skipped(1), failed(0, ran=ran(exit_code=3))])))
    assert [row[0].split()[1] for row in shown] == ["gpu-00", "gpu-01", "gpu-02"]
    assert shown[0][1:3] == ("✕ disk full", "exit code 3")
    assert shown[1][1:] == ("– error budget spent", "", "", "")
    assert shown[2][1:] == ("✓ applied", "exit code 0", "4be1c0d2a97f", "2.6 s")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"exit_code": 3}, "exit code 3"),
        ({"ending": "signalled", "signal": 9}, "killed by signal 9 (SIGKILL)"),
        ({"ending": "signalled", "signal": 250}, "killed by signal 250"),
        ({"ending": "timed_out", "seconds": 300.2}, "timed out after 300 s"),
        ({"ending": "out_of_memory"}, "out of memory"),
        ({"ending": "cancelled"}, "cancelled"),
        ({"ending": "interrupted"}, "interrupted"),
        ({"ending": "not_started"}, "not started"),
    ],
)
def test_endings_are_told_apart(changes: dict[str, Any], words: str) -> None:
    """Exit codes, signals, timeouts and the rest have words of their own."""
    assert rows(rendered(report([failed(0, ran=ran(**changes))])))[0][2] == words


def test_a_fleets_common_fate_is_one_reason() -> None:
    """Each error is told once, with its hint and the instances it holds for."""
    shown = rendered(report([failed(n) for n in range(8)]))
    (reason,) = shown.texts("ul", "reasons")
    assert reason.count(DISK_FULL["message"]) == 1
    assert DISK_FULL["hint"] in reason
    assert reason.endswith("and 3 more")


def test_output_is_shown_to_the_letter_failed_first_and_open() -> None:
    """The tail keeps its lines; who failed needs no click."""
    shown = rendered(failed_run())
    tails = shown.all("details", "tail")
    texts = [text for attributes, text in shown.all("pre") if attributes.get("class") != "command"]
    assert "open" in tails[0][0]
    assert "open" not in tails[-1][0]
    assert texts[0] == "\n" + TRACEBACK  # the newline after <pre> is the parser's to drop
    assert "exit code 3" in shown.texts("summary")[0]


def test_of_a_long_output_the_end_is_shown() -> None:
    """Errors are at the end; the page says how much there was."""
    long = "start" + "x" * 50_000 + "the error"
    shown = rendered(report([failed(0, ran=ran(long, output_bytes=10**9))]))
    (text,) = [text for _, text in shown.all("pre")]
    assert text.endswith("the error")
    assert "start" not in text
    assert len(text) < 5000
    assert "the end of 1.0 GB" in shown.texts("summary")[0]


def test_outputs_beyond_the_pages_room_are_counted() -> None:
    """Failures go first; what is left out is named with the command that shows it."""
    outcomes = [outcome(n, ran=ran("fine")) for n in range(80)]
    outcomes += [failed(n, ran=ran("bad " * 1000)) for n in range(80, 140)]
    shown = rendered(report(outcomes))
    texts = [text.strip() for _, text in shown.all("pre")]
    assert 20 <= len(texts) <= 50
    assert all(text.startswith("bad") for text in texts)
    assert f"{140 - len(texts)} more instances printed something: ferry logs" in shown.text


def test_the_timeline_has_one_scale_and_the_failed_first() -> None:
    """A bar has a piece for each phase; the longest instance fills the width."""
    slow = outcome(1, seconds={"execute": 6.0, "download": 2.0})
    shown = rendered(report([outcome(0, seconds={"download": 4.0}), slow, failed(2)]))
    bars = shown.texts("li")
    who = [text for text in bars if text.startswith(("✓", "✕"))]
    assert [text.split()[2] for text in who] == ["gpu-02", "gpu-01", "gpu-00"]
    labels = [attributes["aria-label"] for attributes, _ in shown.all("svg", "bar")]
    assert labels[1] == "download 2.0 s, execute 6.0 s"
    pieces = [attributes for attributes, _ in shown.all("rect")][2:]
    assert [(piece["x"], piece["width"]) for piece in pieces] == [
        ("0.00%", "25.00%"),
        ("25.00%", "75.00%"),
        ("0.00%", "50.00%"),
    ]


def test_a_long_timeline_is_cut_with_a_note() -> None:
    """Of many instances the failed and the slowest are shown, and the rest counted."""
    made = timeline.timeline([outcome(n) for n in range(200)] + [failed(200)])
    assert made is not None
    assert (len(made["bars"]), made["omitted"], made["bars"][0]["kind"]) == (60, 141, "failed")
    assert "141 more are in the table" in rendered(report([outcome(n) for n in range(201)])).text


@pytest.mark.parametrize("longest", [0.004, 0.3, 7.0, 61.0, 3599.0, 86_000.0, 172_800.0])
def test_the_scale_has_a_few_round_ticks(longest: float) -> None:
    """From milliseconds to Run Command's longest, the axis has between two and seven marks."""
    made = timeline.timeline([outcome(0, seconds={"execute": longest})])
    assert made is not None
    assert 2 <= len(made["ticks"]) <= 7
    assert made["ticks"][0]["left"] == "0.00%"
    assert all(float(tick["left"].rstrip("%")) <= 100 for tick in made["ticks"])


def test_warnings_come_once() -> None:
    """Of the run, of the verification and of instances; the same text of many is one line."""
    noisy = [outcome(n, warnings=["Old releases stay."]) for n in range(3)]
    shown = rendered(report(noisy, warnings=["Left out: x"]))
    (warnings,) = shown.all("ul", "warnings")
    lines = [line.strip() for line in warnings[1].strip().splitlines()]
    assert lines[0] == "Left out: x"
    assert [line[-18:] for line in lines[1:]] == ["Old releases stay."]


def test_unmet_expectations_are_warnings_without_a_verification_too() -> None:
    """What was expected and is not there is told although verify never ran."""
    shown = rendered(report([outcome(0, unmet=["train.py"])], verification=None))
    assert "train.py does not exist." in shown.texts("ul", "warnings")[0]


def test_instances_with_another_tree_are_named() -> None:
    """A digest mismatch stands in the verification."""
    made = report()
    assert made["verification"]
    made["verification"] |= {"mismatched": ["i-other"], "source": "instances"}
    shown = rendered(made)
    assert "Not what was sent: i-other" in shown.text
    assert "3 of 3 agree with one another" in shown.text


def test_hostile_text_makes_no_element() -> None:
    """Markup in any field is text: the page has the elements it has without it, no more."""
    shown = rendered(hostile())
    assert len(shown.all("script")) == len(shown.all("style")) == 1
    assert shown.all("img") == []
    assert "<script>window.pwned = 1</script>" in shown.text
    assert "{{7*7}}" in shown.text
    handlers = [
        name for _, attributes, _ in shown.elements for name in attributes if name[:2] == "on"
    ]
    assert handlers == []


def test_what_cannot_be_seen_is_spelled() -> None:
    """Control characters, reordering marks and broken bytes never reach the browser as such."""
    text = page.render(hostile())
    text.encode("utf-8")
    unseen = re.compile(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
    )
    assert unseen.search(text) is None
    assert "\\x1b[31mred\\x1b[0m" in text
    assert "\\u202egnp.exe" in text
    assert "\\x80 \\ud800" in text


def test_answers_of_the_wrong_type_are_shown_too() -> None:
    """One instance that sends lists for texts and texts for numbers costs nobody the page."""
    wrong: Any = ["x"]
    error: Any = {"code": wrong, "message": wrong, "hint": {}}
    ended = ran(ending="timed_out", seconds="x", output_bytes="many") | {"tail": wrong}
    bad = failed(0, error, ran=ended, release_id=wrong, warnings=[wrong], seconds={"lock": "x"})
    signalled = failed(1, error, ran=ran(ending="signalled", signal=wrong), seconds={"lock": 1e400})
    made = report([bad, signalled], error={**error, "phase": wrong})
    verification: Any = made["verification"]
    verification |= {"files": "x", "bytes": wrong, "source": "instances"}
    assert "timed out after 0 s" in rendered(made).text


def test_text_of_other_scripts_stays_itself() -> None:
    """Letters of any language are no danger."""
    words = "naïve 日本語 עברית 🚢"
    assert visible(words) == words
    assert words in rendered(report([outcome(0, ran=ran(words))])).text


@given(st.text(st.characters(exclude_categories=()), max_size=200))
def test_any_text_comes_out_as_that_text(words: str) -> None:
    """Whatever a command prints, the parser reads back what is left of it, visible."""
    shown = rendered(report([failed(0, ran=ran(words + "."))]))
    assert [text for _, text in shown.all("pre")] == [f"\n{visible(as_drawn(words + '.'))}"]


def test_the_policy_lets_only_the_pages_own_style_and_script_in() -> None:
    """The hashes of the policy are those of what the page holds, and nothing else may load."""
    shown = rendered(report())
    policies = [a["content"] for a, _ in shown.all("meta") if a.get("http-equiv")]
    (policy,) = policies
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        ((_, text),) = shown.all(tag)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert not any("style" in attributes for _, attributes, _ in shown.elements)


def test_the_page_refers_to_nothing_outside() -> None:
    """No address but the icon's, which is in the page."""
    shown = rendered(failed_run())
    referred = [
        value
        for _, attributes, _ in shown.elements
        for name, value in attributes.items()
        if name in ("src", "href", "action", "xlink:href")
    ]
    assert all((value or "").startswith("data:") for value in referred)
    assert "@import" not in page.render(report())
    assert "url(" not in page.render(report())


@pytest.mark.parametrize(("size", "limit"), [(1000, 2 * MEGABYTE), (10_000, 12 * MEGABYTE)])
def test_a_large_fleet_fits(size: int, limit: int) -> None:
    """A page of 1,000 instances has at most 2 MB, one of 10,000 at most 12."""
    assert len(page.render(fleet(size)).encode()) <= limit


def test_a_large_hostile_fleet_fits_too() -> None:
    """Nor do names and outputs of nothing but characters that have to be escaped burst it."""
    bad = '"<' * 200_000
    error = {"code": bad, "message": bad, "hint": bad}
    outcomes = [
        failed(n, {**error, "message": f"{n}{bad}"}, name=bad, ran=ran(bad)) for n in range(1000)
    ]
    made = report(outcomes, project=bad, target=bad, warnings=[f"{n}{bad}" for n in range(200)])
    assert len(page.render(made).encode()) <= 2 * MEGABYTE


def test_hostile_is_hostile() -> None:
    """The sample holds what it is meant to: markup, escapes and a line of a megabyte."""
    assert len(max(HOSTILE.splitlines(), key=len)) > MEGABYTE
    assert "\x1b" in HOSTILE
