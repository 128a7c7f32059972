"""The physical limits of the machine, as a benchmark of their own: `measure.limits` in one pinned process."""
from __future__ import annotations

from typing import Any

import measure


class Run:
    """The limits as figures; there is nothing to compare."""

    def __init__(self, figures: list[measure.Figure]) -> None:
        self.figures = figures
        self.gradients: dict[str, Any] = {}


TOOLS = {"machine": lambda settings: Run(measure.limits(settings["quick"]))}
