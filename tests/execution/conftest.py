"""What the tests of runs share."""

import pytest


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of a report are made, and not drawn, which takes most of its time: tests/report draws them."""
    monkeypatch.setattr("distill.report.drawing.Drawing.svg", lambda self: '<svg width="9pt"></svg>')
