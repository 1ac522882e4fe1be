"""Colours and frames that all pictures share; it needs no matplotlib to be imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#1f2937"
MUTED = "#6b7280"
FAINT = "#e5e7eb"
BLUE = "#2563eb"
ORANGE = "#ea580c"
RED = "#dc2626"


def axes_or_new(ax: Axes | None, **figure: Any) -> Axes:
    """Return the given axes, or those of a new pyplot figure with some settings."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(**figure)[1]


def set_heading(ax: Axes, text: str) -> None:
    """Set a title above the left end of some axes."""
    ax.set_title(text, loc="left", fontsize=12, color=INK, pad=10)


def set_plain_frame(ax: Axes) -> None:
    """Leave the two axes of a frame, and dye them."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(MUTED)
    ax.tick_params(which="both", colors=MUTED, labelcolor=INK)
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)
