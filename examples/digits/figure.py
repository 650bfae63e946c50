"""The figure of the digits example: one page that shows who learned how fast, who won, and what was misread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpecFromSubplotSpec, SubplotSpec
from matplotlib.ticker import FuncFormatter, PercentFormatter

INK, MUTED, RULE, PAPER = "#1b2733", "#66727f", "#dfe4e9", "#ffffff"
COLOURS = ("#8a94a0", "#3f8fb5", "#4c9f70", "#d9912b", "#c2413b")
SHOWN, ROWS = 8, 2  # misread digits that are shown, and in how many rows

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.titlecolor": INK,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
}


def draw(
    path: Path,
    contests: list[Any],
    winner: Any,
    accuracy: float,
    matrix: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    guessed: np.ndarray,
) -> None:
    """Writes the figure as a PNG without a time stamp, so that the same numbers give the same bytes."""
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(14, 9.2))
        grid = figure.add_gridspec(
            2,
            2,
            height_ratios=(1.55, 1),
            width_ratios=(1.42, 1),
            left=0.135,
            right=0.975,
            top=0.835,
            bottom=0.07,
            hspace=0.4,
            wspace=0.16,
        )
        _heading(figure, winner, accuracy, len(labels))
        _curves(figure.add_subplot(grid[0, 0]), contests, winner)
        _confusion(figure.add_subplot(grid[0, 1]), matrix)
        _settings(figure.add_subplot(grid[1, 0]), contests, winner)
        _misread(figure, grid[1, 1], images, labels, guessed)
        figure.savefig(path, dpi=140, metadata={"Software": None})
        plt.close(figure)


def _heading(figure: Figure, winner: Any, accuracy: float, count: int) -> None:
    figure.text(0.03, 0.94, "Five ways to read a handwritten digit", fontsize=20, weight="bold")
    setting = ", ".join(f"{key} {value}" for key, value in winner.setting.items())
    figure.text(
        0.03,
        0.902,
        f"{winner.name.capitalize()} won ({setting}): {accuracy:.2%} of {count} unseen images read right.",
        fontsize=11.5,
        color=MUTED,
    )


def _curves(axes: Axes, contests: list[Any], winner: Any) -> None:
    axes.set_title("Learning curves")
    ends = []
    for contest, colour in zip(contests, COLOURS, strict=True):
        first = contest is winner
        axes.fill_between(
            contest.sizes, contest.curve - contest.band, contest.curve + contest.band, color=colour, alpha=0.10, lw=0
        )
        axes.plot(
            contest.sizes,
            contest.curve,
            color=colour,
            lw=2.6 if first else 1.6,
            marker="o",
            ms=4.5 if first else 3,
            zorder=3 if first else 2,
        )
        ends.append((float(contest.curve[-1]), contest.name, colour, first))
    low = min(float(contest.curve.min()) for contest in contests)
    axes.set_ylim(max(0.0, low - 0.03), 1.005)
    last = int(contests[0].sizes[-1])
    axes.set_xlim(0, last * 1.3)
    _label_ends(axes, ends, last * 1.02)
    axes.set_xticks([0, 200, 400, 600, 800, 1000])
    axes.set_xlabel("images learned from (line: mean accuracy of five folds, shade: their spread)")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(axis="y", color=RULE, lw=0.8)
    axes.set_axisbelow(True)


def _label_ends(axes: Axes, ends: list[tuple[float, str, str, bool]], x: float) -> None:
    """Names each curve at its end; names that would overlap are moved apart, best on top."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.047
    place = high + gap
    for value, name, colour, first in sorted(ends, reverse=True):
        place = min(value, place - gap)
        axes.text(
            x,
            place,
            f"{name} {value:.1%}",
            color=colour,
            va="center",
            fontsize=9,
            weight="bold" if first else None,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.2},
        )


def _confusion(axes: Axes, matrix: np.ndarray) -> None:
    axes.set_anchor("W")
    axes.set_title("Confusion matrix of the winner")
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shown = np.where(np.eye(len(matrix), dtype=bool), share, np.sqrt(share))  # mistakes are few: lift them
    axes.imshow(shown, cmap="Blues", vmin=0, vmax=1.15, aspect="equal")
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            right = row == column
            axes.text(
                column,
                row,
                str(count),
                ha="center",
                va="center",
                fontsize=9.5,
                weight=None if right else "bold",
                color="white" if right else COLOURS[-1],
            )
    digits = range(len(matrix))
    axes.set_xticks(digits)
    axes.set_yticks(digits)
    axes.set_xticks(np.arange(-0.5, len(matrix)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(matrix)), minor=True)
    axes.grid(which="minor", color=PAPER, lw=1.5)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("read as")
    axes.set_ylabel("written as")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _settings(axes: Axes, contests: list[Any], winner: Any) -> None:
    total = sum(len(contest.tried) for contest in contests)
    axes.set_title(f"All {total} settings: error in cross-validation (log scale, less is better)")
    for row, (contest, colour) in enumerate(zip(contests, COLOURS, strict=True)):
        errors = [1 - setting["accuracy"] for setting in contest.tried]
        best = 1 - contest.score
        axes.plot([best, max(errors)], [row, row], color=colour, lw=1.5, alpha=0.35, zorder=1)
        axes.scatter(errors, [row] * len(errors), s=34, color=colour, alpha=0.45, lw=0, zorder=2)
        axes.scatter([best], [row], s=90, color=colour, edgecolor=PAPER, lw=1.5, zorder=3)
        axes.text(
            best,
            row + 0.34,
            f"{best:.1%}",
            color=colour,
            ha="center",
            va="center",
            fontsize=9,
            weight="bold" if contest is winner else None,
        )
    axes.set_yticks(range(len(contests)), [contest.name for contest in contests])
    for text, contest in zip(axes.get_yticklabels(), contests, strict=True):
        text.set_color(INK if contest is winner else MUTED)
        text.set_fontweight("bold" if contest is winner else "normal")
    axes.set_ylim(-0.5, len(contests) - 0.3)
    axes.set_xscale("log")
    axes.set_xticks([0.01, 0.02, 0.05, 0.1, 0.2])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.minorticks_off()
    axes.grid(axis="x", color=RULE, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)


def _misread(figure: Figure, place: SubplotSpec, images: np.ndarray, labels: np.ndarray, guessed: np.ndarray) -> None:
    wrong = np.flatnonzero(labels != guessed)
    frame = figure.add_subplot(place)
    frame.set_axis_off()
    shown = wrong[:SHOWN]
    more = f" (the first {SHOWN} of {len(wrong)})" if len(wrong) > SHOWN else ""
    frame.set_title(f"What the winner misread{more}" if len(wrong) else "The winner misread nothing")
    inner = GridSpecFromSubplotSpec(ROWS, SHOWN // ROWS, subplot_spec=place, hspace=0.45, wspace=0.35)
    for cell, index in enumerate(shown):
        axes = figure.add_subplot(inner[cell // (SHOWN // ROWS), cell % (SHOWN // ROWS)])
        axes.set_anchor("NW")
        axes.imshow(images[index].reshape(8, 8), cmap="Greys", vmin=0, vmax=16, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_color(RULE)
        axes.set_xlabel(f"{labels[index]}, read as {guessed[index]}", color=COLOURS[-1], fontsize=9, labelpad=5)
