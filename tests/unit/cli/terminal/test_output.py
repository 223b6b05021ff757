"""Output: a word when something takes long."""

from __future__ import annotations

import pytest

from codeferry_cli.terminal import output


def test_silence_ends_with_a_word(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes long says what it is waiting for; what does not says nothing."""
    monkeypatch.setattr(output, "SILENCE_SECONDS", 0.001)
    said = ""
    with output.notice_when_slow("Contacting AWS…"):
        while not said:
            said = capfd.readouterr().err
    assert said == "Contacting AWS…\n"
    monkeypatch.setattr(output, "SILENCE_SECONDS", 3600)
    with output.notice_when_slow("Contacting AWS…"):
        pass
    assert capfd.readouterr().err == ""
