"""
A plot of the members joined over time (extra C{sim}: matplotlib).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from dtt.testing.simulate.results import Result, times

#: The types of files, by suffix.
SUFFIXES: Final = (".png", ".svg")


def steps(results: Sequence[Result], until: float) -> tuple[list[float], list[float]]:
    """
    The share of members that have joined, by the seconds since their start.

    @param results: the runs.
    @param until: the last second.
    """
    seconds = sorted(each for each in times(results) if each <= until)
    total = max(len(times(results)), 1)
    x, y = [0.0], [0.0]
    for count, second in enumerate(seconds, 1):
        x.append(second)
        y.append(count / total)
    return [*x, until], [*y, y[-1]]


def plot(path: Path, title: str, results: Mapping[str, Sequence[Result]], until: float) -> None:
    """
    Write a plot with a line for each rule.

    @param path: the file; its suffix is one of L{SUFFIXES}.
    @param title: the title.
    @param results: the runs of each rule.
    @param until: the last second.
    @raise ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for rule, each in results.items():
        axes.step(*steps(each, until), where="post", label="dtt" if rule == "dtt" else "upstream's rule")
    axes.set_xlabel("seconds since the start of a member")
    axes.set_ylabel("share of members joined")
    axes.set_xlim(0, until)
    axes.set_ylim(0, 1.05)
    axes.set_title(title)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path)
