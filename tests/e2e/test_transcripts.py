"""README and docs show what ferry says."""

import pytest

from scripts.transcripts import DOCS, masked, record, short_place, text_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def files():
    """Every page as it would be written now, by its path."""
    with short_place() as place:
        return record(place).files()


@pytest.mark.timeout(600)
def test_every_transcript_is_what_ferry_says(files):
    """Ids and numbers masked; else run scripts/transcripts.py and look at what has changed."""
    stale = {
        str(path): difference
        for path, text in files.items()
        if (difference := differing(path.read_text(), text))
    }
    assert not stale


def test_every_console_block_with_ferry_is_one_of_them(files):
    """Nobody writes one by hand that nothing compares. Those of train.md are typed one after the
    other by test_train.py, which compares what comes out in the end."""
    blocks = [
        block
        for path, text in files.items()
        if path.suffix == ".md" and path.name != "train.md"
        for block in text.split("```console\n")[1:]
    ]
    assert len(blocks) == 3
    assert {path.name for path in files} >= {"README.md", "run.md", "terminal.md"}


def test_no_terminal_is_written_over(files):
    """At 80 and at 40 columns only a command that is to be pasted is wider than that."""
    page = (DOCS / "terminal.md").read_text()
    for section in page.split("\n80 columns")[1:]:
        wide, narrow = section.split("\n40 columns")
        for width, part in ((80, wide), (40, narrow)):
            for line in part.split("```")[1].splitlines()[1:]:
                assert len(line) <= width or "ferry " in line or " | " in line, line


def differing(old, new):
    """Lines that only one of them has."""
    before, after = masked(text_of(old)), masked(text_of(new))
    return [*(before - after), *(after - before)]
