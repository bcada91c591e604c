"""The pictures of a result: ratios as bars or by family, and the roofline. Called by `report`.

Every picture takes the whole result and leaves out the rows that it has nothing to show of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import matplotlib.pyplot as plt

from benchmarks.cases import FORWARD
from benchmarks.machine import thread_words

# Drawn without a screen.
plt.switch_backend("Agg")
# Without a salt the identifiers in an SVG differ on every run, and so would every commit.
plt.rcParams["svg.hashsalt"] = "depthwise"

_OURS, _PEER, _LOSING = "tab:blue", "tab:orange", "tab:red"

Result = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]


def draw_all(result: Result, folder: Path) -> list[Path]:
    """Draw the pictures that the result has rows for, as SVG; return their paths."""
    pictures: dict[str, tuple[Callable[[Result, Rows, Path], None], Rows]] = {
        "benchmarks.svg": (draw_bars, [row for row in result["rows"] if row["selected"]]),
        "benchmarks_gradients.svg": (
            draw_bars,
            [row for row in result["rows"] if row["operation"] != FORWARD],
        ),
        "benchmarks_families.svg": (draw_families, result["rows"]),
        "benchmarks_roofline.svg": (draw_roofline, _under_one_roof(result["rows"])),
    }
    drawn = []
    for name, (draw, rows) in pictures.items():
        rows = [row for row in rows if "ratio" in row]
        if rows:
            draw(result, rows, folder / name)
            drawn.append(folder / name)
    return drawn


def draw_bars(result: Result, rows: Rows, path: Path) -> None:
    """Draw how many times faster than its best peer each row is; too tall for hundreds."""
    with _figure(path, (8, 1.2 + 0.22 * len(rows))) as axes:
        positions = range(len(rows))
        axes.barh(positions, [row["ratio"] - 1 for row in rows], left=1, color=_colors(rows))
        for position, row in zip(positions, rows, strict=True):
            text = f" {row['ratio']:.2f} ({result['labels'][row['best_peer']]})"
            axes.text(max(row["ratio"], 1), position, text, va="center", fontsize=7)
        axes.set_yticks(positions, [row["name"] for row in rows], fontsize=7)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        _ratio_axis(axes, result, rows)
        axes.set_xlim(right=3 * max(row["ratio"] for row in rows))  # Room for the text.


def draw_families(result: Result, rows: Rows, path: Path) -> None:
    """Draw a dot for each row, a line of dots for each family, and their geometric mean."""
    families: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        families.setdefault(row["family"], []).append(row)
    with _figure(path, (8, 1.2 + 0.32 * len(families))) as axes:
        right = 1.6 * max(row["ratio"] for row in rows)
        for position, members in enumerate(families.values()):
            for data_format, offset in (("NHWC", -0.12), ("NCHW", 0.12)):
                shown = [row for row in members if row["data_format"] == data_format]
                heights = [position + offset] * len(shown)
                ratios = [row["ratio"] for row in shown]
                marker = _MARKERS[data_format]
                colors = _colors(shown)
                axes.scatter(ratios, heights, s=18, c=colors, marker=marker, alpha=0.7, lw=0)
            mean = geometric_mean(row["ratio"] for row in members)
            axes.plot([mean, mean], [position - 0.3, position + 0.3], color="black", lw=1.5)
            text = f"{mean:.2f}"
            axes.text(right, position, text, va="center", ha="right", fontsize=8)
        axes.set_yticks(range(len(families)), list(families), fontsize=8)
        axes.set_ylim(len(families) - 0.4, -0.6)
        _ratio_axis(axes, result, rows)
        axes.set_xlim(right=right * 1.05)
        axes.set_title(
            "above NHWC, below NCHW; bar and number: geometric mean", fontsize=8, loc="right"
        )


def draw_roofline(result: Result, rows: Rows, path: Path) -> None:
    """Draw speed over arithmetic intensity, below the roofs that were measured with the rows."""
    peak = max(row["flops"] / row["floor"]["arithmetic_us"] / 1e3 for row in rows)
    speeds = [row["moved_bytes"] / row["floor"]["memory_us"] / 1e3 for row in rows]
    intensity = [row["flops"] / row["moved_bytes"] for row in rows]
    left, right = 0.7 * min(intensity), 1.6 * max(intensity)
    with _figure(path, (8, 5)) as axes:
        roofs = {f"copy in cache, {max(speeds):.0f} GB/s": max(speeds)}
        if min(speeds) < 0.7 * max(speeds):  # Or no row was larger than the caches.
            roofs[f"copy in memory, {min(speeds):.0f} GB/s"] = min(speeds)
        for (label, speed), style in zip(roofs.items(), ("-", "--"), strict=False):
            ends = [left, max(min(peak / speed, right), left)]
            axes.plot(ends, [speed * x for x in ends], style, color="black", lw=1, label=label)
        label = f"multiply-adds, {peak:.0f} GFLOP/s"
        axes.plot([left, right], [peak, peak], ":", color="black", lw=1, label=label)
        for name, color in (("depthwise", _OURS), ("best peer", _PEER)):
            for data_format, marker in _MARKERS.items():
                points = [
                    (x, row["gflops"] / (1 if name == "depthwise" else row["ratio"]))
                    for x, row in zip(intensity, rows, strict=True)
                    if row["data_format"] == data_format
                ]
                if points:
                    label = f"{name}, {data_format}"
                    axes.scatter(
                        *zip(*points, strict=True),
                        s=18,
                        c=color,
                        marker=marker,
                        alpha=0.75,
                        lw=0,
                        label=label,
                    )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlim(left, right)
        axes.set_xlabel(
            "multiplications and additions for each byte of the images; float32, "
            f"{result['header']['cpu']}, 1 thread",
            fontsize=8,
        )
        axes.set_ylabel("GFLOP/s", fontsize=8)
        axes.legend(fontsize=7, loc="lower right")


_MARKERS = {"NHWC": "o", "NCHW": "s"}


@contextmanager
def _figure(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    """Give the axes of a picture that is saved at the end."""
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    yield axes
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _ratio_axis(axes: Any, result: Result, rows: Rows) -> None:
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    label = f"times faster than the best peer, {_machine(result)}"
    axes.set_xlabel(label, fontsize=8)


def _machine(result: Result) -> str:
    return f"{result['header']['cpu']}, {thread_words(result['header'])}"


def _colors(rows: Rows) -> list[str]:
    """Blue where ours is faster, red where it loses: the losing rows are not to be overlooked."""
    return [_OURS if row["ratio"] >= 1 else _LOSING for row in rows]


def _under_one_roof(rows: Rows) -> list[Mapping[str, Any]]:
    """Return the rows that the roofs of float32 on one core are measured for."""
    return [
        row
        for row in rows
        if row["dtype"] == "float32" and row["operation"] == FORWARD and "floor" in row
    ]
