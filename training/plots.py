"""What all plots share."""

from __future__ import annotations

from pathlib import Path

from datasets_scripts.files import whole_file


def pyplot():
    """
    matplotlib's pyplot, drawing to files.

    Raises:
        ImportError: that says how to install it.
    """
    try:
        import matplotlib
    except ImportError:
        raise ImportError("Plots need matplotlib: pip install -e '.[plots]', or pip install matplotlib.") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def save(figure, path: str | Path) -> None:
    """Writes the figure whole or not at all, as a .png, .pdf or .svg file."""
    kind = Path(path).suffix.removeprefix(".")
    if kind not in ("png", "pdf", "svg"):
        raise ValueError(f"A plot is a .png, .pdf or .svg file; got {str(path)!r}.")
    figure.tight_layout()
    with whole_file(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=150)
    pyplot().close(figure)
