"""The report page as a browser shows it: safe, legible, whole on every screen."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.browser.conftest import DESK, PHONE
from tests.browser.reports import failed_run, fleet, hostile, report, roll_out

CONTRASTS = Path(__file__).with_name("contrast.js").read_text()
REPORTS = {
    "success": report,
    "failure": failed_run,
    "hostile": hostile,
    "fleet": lambda: fleet(1000),
    "roll-out": lambda: roll_out(1000, waves=("1", "10%", "50%", "100%")),
}


@pytest.fixture(params=REPORTS)
def any_report(request):
    return REPORTS[request.param]()


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_nothing_leaves_the_page(look, any_report, size):
    """Loading and scrolling a page asks nobody for anything, and breaks no rule of its own."""
    seen = look(any_report, size=size)
    seen.page.mouse.wheel(0, 100_000)
    seen.page.wait_for_load_state("networkidle")
    assert seen.beyond() == []
    assert seen.complaints == []


def test_what_an_instance_printed_is_never_run(look):
    """No script, handler or style of the hostile output takes effect; its words are there."""
    seen = look(hostile())
    for summary in seen.page.query_selector_all("summary"):
        summary.scroll_into_view_if_needed()
    assert seen.page.evaluate("typeof window.pwned") == "undefined"
    assert seen.page.evaluate("getComputedStyle(document.body).display") == "block"
    assert "<script>window.pwned = 1</script>" in seen.page.inner_text("h1")
    assert "\\x1b[31mred" in seen.page.inner_text("h1")


def test_the_policy_holds_even_against_markup_that_got_in(look):
    """A script, an image and a style put into the page by force do nothing."""
    seen = look(report())
    blocked = seen.page.evaluate(
        """() => new Promise((done) => {
          const blocked = new Set();
          document.addEventListener("securitypolicyviolation", (event) => {
            blocked.add(event.effectiveDirective);
            if (blocked.size === 3) done([...blocked].sort());
          });
          const script = document.createElement("script");
          script.textContent = "window.pwned = 1";
          const style = document.createElement("style");
          style.textContent = "body { display: none }";
          document.body.append(script, style);
          document.body.insertAdjacentHTML("beforeend", "<img src='http://127.0.0.1:9/x'>");
        })"""
    )
    assert blocked == ["img-src", "script-src-elem", "style-src-elem"]
    assert seen.page.evaluate("typeof window.pwned") == "undefined"


@pytest.mark.parametrize("width", [320, 360, 768])
def test_the_page_is_never_wider_than_the_screen(look, any_report, width):
    """Wide things scroll in their own box; the body does not."""
    seen = look(any_report, size=(width, 740))
    for details in seen.page.query_selector_all("details"):
        details.evaluate("(element) => { element.open = true }")
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_line_of_a_megabyte_wraps_in_a_box_that_scrolls(look):
    """Long output has a bounded height and no width of its own."""
    seen = look(hostile(), size=PHONE)
    box = seen.page.eval_on_selector(
        ".tail pre", "(e) => [e.scrollWidth - e.clientWidth, e.clientHeight, e.scrollHeight]"
    )
    assert box[0] <= 0
    assert box[1] < 500 < box[2]


def test_light_and_dark_follow_the_reader(look):
    """A light scheme has a light ground with dark text, a dark one the reverse."""

    def brightness(scheme, property_):
        seen = look(report(), scheme=scheme)
        script = f"getComputedStyle(document.body).{property_}.match(/\\d+/g).map(Number)"
        return sum(seen.page.evaluate(script)) / 3

    assert brightness("light", "backgroundColor") > 230
    assert brightness("light", "color") < 60
    assert brightness("dark", "backgroundColor") < 40
    assert brightness("dark", "color") > 200


@pytest.mark.parametrize("made", [failed_run, roll_out])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(look, scheme, made):
    """4.5 to 1 at least, for all text in both schemes."""
    seen = look(made(), scheme=scheme)
    found = seen.page.evaluate(CONTRASTS)
    assert len(found) > 100
    assert [one for one in found if one[0] < 4.5] == []


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_a_thousand_instances_are_a_thousand_cells(look, size):
    """Each instance has a cell that can be seen, failed ones with a pattern beside the colour."""
    seen = look(fleet(1000), size=size)
    sides = seen.page.eval_on_selector_all(
        ".grid .cell", "(all) => all.map((e) => Math.min(e.clientWidth, e.clientHeight))"
    )
    assert len(sides) == 1000
    assert min(sides) >= 7
    looks = {
        status: seen.page.eval_on_selector(
            f".grid .{status}", "(e) => getComputedStyle(e).backgroundImage"
        )
        for status in ("succeeded", "failed", "skipped")
    }
    assert len(set(looks.values())) == 3


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_the_waves_of_a_thousand_instances_can_be_told_apart(look, size):
    """Each wave's cells are near its own words, and four fates look different."""
    seen = look(REPORTS["roll-out"](), size=size)
    waves = seen.page.locator(".wave")
    assert [w.locator(".grid .cell").count() for w in waves.all()] == [1, 99, 400, 500, 1]
    for wave in waves.all():
        words, grid = wave.locator("h3").bounding_box(), wave.locator(".grid").bounding_box()
        below = grid["y"] - (words["y"] + words["height"])
        assert below < 20 if size == PHONE else words["x"] + words["width"] < grid["x"]
    looks = {
        kind: seen.page.eval_on_selector(
            f".grid .{kind}", "(e) => getComputedStyle(e).backgroundImage"
        )
        for kind in ("succeeded", "failed", "returned", "skipped")
    }
    assert len(set(looks.values())) == 4


def test_a_cell_leads_to_its_row(look):
    """A click on a failed cell marks that instance in the table and brings it into view."""
    seen = look(fleet(1000))
    cell = seen.page.locator(".grid .cell.failed").nth(3)
    instance = cell.get_attribute("title").split()[0]
    cell.click()
    found = seen.page.locator("tr.found")
    assert found.get_attribute("id") == instance
    assert found.evaluate("(e) => e.getBoundingClientRect().top") < DESK[1]


def test_the_table_can_be_filtered(look):
    """By outcome and by words; the page says how many are left."""
    seen = look(fleet(200))
    seen.page.select_option("select", "failed")
    assert seen.page.locator("tbody tr:visible").count() == 3
    assert seen.page.inner_text("output") == "3 of 200"
    seen.page.fill("input", "gpu-68")
    assert seen.page.locator("tbody tr:visible").count() == 1


def test_without_scripts_the_page_is_whole(look):
    """Everything but the filter is there, and output can be opened."""
    seen = look(failed_run(), scripts=False)
    assert seen.page.locator("tbody tr").count() == 12
    assert not seen.page.is_visible(".filter")
    closed = seen.page.locator("details:not([open])").first
    closed.locator("summary").click()
    assert closed.page.locator("details[open]").count() == 3


def test_paper_gets_everything(look):
    """In print nothing is cut off by a scroll box or hidden behind a click."""
    seen = look(fleet(200))
    assert seen.page.locator("details:not([open])").count() > 0
    seen.page.emulate_media(media="print")
    assert not seen.page.is_visible(".filter")
    boxes = seen.page.eval_on_selector_all(
        ".tail pre, .scroll",
        "(all) => all.map((e) => [e.checkVisibility(), e.clientHeight, e.scrollHeight])",
    )
    assert len(boxes) == 11
    assert all(visible and shown == whole for visible, shown, whole in boxes)


def test_the_structure_is_there_for_those_who_cannot_see_it(look):
    """One main heading, sections named by theirs, header cells, named pictures."""
    seen = look(failed_run())
    tree = seen.page.locator("body").aria_snapshot()
    for part in (
        'heading "demo to gpu-workers" [level=1]',
        'region "Fleet"',
        'img "9 succeeded, 3 failed, 0 skipped',
        'columnheader "Result"',
        'rowheader "i-',
        'searchbox "Find"',
    ):
        assert part in tree
    assert seen.page.get_attribute("html", "lang") == "en"


@pytest.mark.parametrize(
    ("name", "scheme", "size"),
    [("failure", "light", DESK), ("failure", "dark", DESK), ("fleet", "light", PHONE)],
)
def test_a_screenshot_shows_more_than_a_blank_sheet(look, tmp_path, name, scheme, size):
    """The picture to look at, in the test's own directory: many colours, the size of the page."""
    seen = look(REPORTS[name](), scheme=scheme, size=size)
    path = tmp_path / f"{name}-{scheme}.png"
    seen.page.screenshot(path=path, full_page=True)
    with Image.open(path) as picture:
        assert picture.width == size[0]
        assert picture.height > size[1]
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 100
