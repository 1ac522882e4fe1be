"""From the figures of a run to a table in Markdown and a plot.

``python benchmarks/report.py RESULTS.json`` writes both anew, beside the file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from peers import NAMES
from workloads import Target

Row = dict[str, Any]

STAND_IN = "scikit-learn's digits, enlarged to 28 x 28 pixels: a stand-in for MNIST"
OURS = "cymlp"
MET, MISSED = "✓", "✗"
#: Two threads count as slower than one if they take this much longer: the noise of a run.
NOISE = 1.05
LIMIT_NAMES = {"fma": "FMA", "copy": "copy"}
COLOURS = {
    "jax": "#d55e00",
    "torch": "#cc79a7",
    "sklearn": "#0072b2",
    "onnxruntime": "#009e73",
    "numpy": "#999999",
}


# Figures


def seconds(row: Row, library: str) -> float | None:
    """Return the median time of a unit of work, or None if the library was not timed."""
    entry = row["libraries"].get(library)
    return entry and entry["seconds"]["median"] / row["units"]


def ratio(row: Row, peer: str) -> float | None:
    """Return how many times as fast as a peer cymlp is; "best" is the fastest peer of the row."""
    ours = seconds(row, OURS)
    others = row["libraries"] if peer == "best" else [peer]
    theirs = [time for other in others if other != OURS and (time := seconds(row, other))]
    return min(theirs) / ours if ours and theirs else None


def speedup(row: Row, rows: Iterable[Row]) -> float | None:
    """Return how many times as fast as on one thread cymlp is in this row."""
    ours = seconds(row, OURS)
    for other in rows:
        if other["task"]["name"] == row["task"]["name"] and other["threads"] == 1:
            serial = seconds(other, OURS)
            return serial / ours if serial and ours else None
    return None


def reached(target: Target, row: Row, rows: Iterable[Row]) -> float | None:
    """Return what the row reaches of the target's measure; None where it says nothing about it."""
    ours = seconds(row, OURS)
    if ours is None:
        return None
    if target.measure == "ratio":
        return ratio(row, target.peer)
    if target.measure == "fma":
        return row["libraries"][OURS]["fma share"]
    if target.measure == "ns":
        return ours * 1e9
    return speedup(row, rows) if row["threads"] == 2 else None


def is_met(target: Target, value: float) -> bool:
    return value <= target.value if target.measure == "ns" else value >= target.value


# Text


def mark(met: bool) -> str:
    return MET if met else MISSED


def duration(value: float | None) -> str:
    """Return a time to three digits, in the unit that suits it."""
    if value is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{digits(value / size)} {unit}"
    return f"{digits(value / 1e-9)} ns"


def digits(value: float) -> str:
    """Return a number with three digits, or all of those before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def table(header: list[str], lines: Iterable[list[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *lines)]


def ratio_cell(row: Row, peer: str) -> str:
    """Return "2.31× (2 ✓)": the ratio, and the target where there is one."""
    value = ratio(row, peer)
    if value is None:
        return "-"
    text = f"{digits(value)}×"
    for target in targets_of(row):
        if target.measure == "ratio" and target.peer == peer:
            text += f" ({target.value:g} {mark(is_met(target, value))})"
    return text if row["libraries"][peer]["agrees"] else f"{text} (!)"


def other_targets(row: Row, rows: list[Row]) -> str:
    """Return the row's targets that are not a peer's column."""
    texts = {
        "fma": lambda t, v: f"{percent(v)} of FMA ({percent(t)})",
        "ns": lambda t, v: f"{v:.0f} ns ({t:g})",
        "ratio": lambda t, v: f"best peer {digits(v)}× ({t:g})",
        "speedup": lambda t, v: f"2 threads {v:.2f}× ({t:g})",
    }
    found = []
    for target in targets_of(row):
        value = reached(target, row, rows)
        if value is not None and (target.measure != "ratio" or target.peer == "best"):
            text = texts[target.measure](target.value, value)
            found.append(f"{text} {mark(is_met(target, value))}")
    gain = speedup(row, rows)
    scales = any(target.measure == "speedup" for target in targets_of(row))
    if row["threads"] > 1 and gain is not None and not scales:
        found.append(f"{row['threads']} threads {gain:.2f}× {mark(gain >= 1 / NOISE)}")
    return ", ".join(found) or "-"


def targets_of(row: Row) -> list[Target]:
    return [Target(**target) for target in row["task"]["targets"]]


def work_name(row: Row) -> str:
    """Return the task without the regime, which stands above its table."""
    return row["task"]["name"].removeprefix(f"{row['task']['regime']}, ")


def regime_table(rows: list[Row]) -> list[str]:
    peers = [name for name in NAMES if name != OURS and any(name in r["libraries"] for r in rows)]
    header = ["work", "threads", OURS, "GFLOP/s", "of limit", *(NAMES[p] for p in peers), "other"]
    lines = []
    for row in rows:
        entry = row["libraries"].get(OURS)
        own = ["-", "-", "-"]
        if entry:
            flag = "" if entry["agrees"] else " (!)"
            time = f"{duration(seconds(row, OURS))} / {row['per']}{flag}"
            share = f"{percent(entry['share'])} {LIMIT_NAMES[row['limit']]}"
            own = [time, digits(entry["gflops"]), share]
            if row["task"]["cold"]:  # most of the time no network is trained
                own[1:] = ["-", "-"]
        cells = [ratio_cell(row, peer) for peer in peers]
        lines.append([work_name(row), str(row["threads"]), *own, *cells, other_targets(row, rows)])
    return table(header, lines)


def memory_table(rows: list[dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row["libraries"]))
    lines = []
    for row in rows:
        cells = [
            f"{entry['over data'] / 1e6:.1f} MB" if (entry := row["libraries"].get(name)) else "-"
            for name in names
        ]
        ours = row["libraries"].get(OURS)
        met = mark(ours["over data"] <= row["target"]) if ours else "-"
        lines.append([row["data"], *cells, f"{row['target'] / 1e6:.1f} MB {met}"])
    return table(["input", *(NAMES[name] for name in names), "target"], lines)


def weight_table(weight: dict[str, Any]) -> list[str]:
    target = weight["import target"]
    lines = []
    for name, spread in weight["import"].items():
        met = f"{duration(target)} {mark(spread['median'] <= target)}" if name == OURS else "-"
        lines.append([f"import of {NAMES[name]}, beyond NumPy's", duration(spread["median"]), met])
    if weight["wheel"]:
        size, most = weight["wheel"], weight["wheel target"]
        goal = f"{most / 1e6:g} MB {mark(size <= most)}"
        lines.append([f"wheel of {OURS}", f"{size / 1e6:.2f} MB", goal])
    return table(["what", "measured", "target"], lines)


def limits_table(rows: list[Row]) -> list[str]:
    lines = []
    for threads in sorted({row["threads"] for row in rows}):
        found = [row["limits"] for row in rows if row["threads"] == threads]
        rates = [median(limits[name] for limits in found) / 1e9 for name in ("fma", "copy")]
        lines.append([str(threads), *map(digits, rates)])
    return table(["threads", "FMA, GFLOP/s", "copy, GB/s read and written"], lines)


def met_and_missed(results: dict[str, Any]) -> tuple[int, int]:
    """Count the targets of the timed rows."""
    rows = results["rows"]
    found = [
        is_met(target, value)
        for row in rows
        for target in targets_of(row)
        if (value := reached(target, row, rows)) is not None
    ]
    return sum(found), len(found)


def notes(results: dict[str, Any]) -> list[str]:
    """Return what went otherwise than it should, a line each."""
    found = []
    for row in results["rows"]:
        where = f"{row['task']['name']}, {row['threads']} threads"
        for name, reason in row["skipped"].items():
            found.append(f"- {where}: {NAMES.get(name, name)} is left out: {reason}.")
        for name, entry in row["libraries"].items():
            if not entry["agrees"]:
                found.append(
                    f"- (!) {where}: {NAMES[name]} ends at {entry['check']:.4g}, unlike the others."
                )
    for name, share in results.get("restless", {}).items():
        found.append(f"- {name}: used {percent(share)} of a core while others were timed.")
    return found


def markdown(results: dict[str, Any]) -> str:
    met, of = met_and_missed(results)
    about = results["machine"]
    versions = ", ".join(f"{NAMES[name]} {v}" for name, v in results["versions"].items())
    scope = " A subset on a tenth of the data: the full run is what counts." * results["quick"]
    lines = [
        "# Results",
        "",
        f"{results['date']}, {about['cpu']}, {about['cores']} cores, Python {about['python']}. "
        f"{versions}. Medians of {results['repeats']} repeats. Images: {results['images']}."
        f"{scope}",
        "",
        f"A column of a peer says how many times as fast as it {OURS} is, and in brackets the "
        f"target. {met} of {of} targets of the timed rows are met. [How to read "
        "this](../README.md#how-to-read-the-table).",
    ]
    by_regime: dict[str, list[Row]] = {}
    for row in results["rows"]:
        by_regime.setdefault(row["task"]["regime"], []).append(row)
    for regime, rows in by_regime.items():
        lines += ["", f"## {regime.capitalize()}", "", *regime_table(rows)]
    if results.get("memory"):
        network = results["memory"][0]["network"]
        lines += ["", "## Memory", "", f"Peak while training {network} on the images, over what "
                  "was resident before: the data and the library.", "",
                  *memory_table(results["memory"])]  # fmt: skip
    if results.get("weight"):
        lines += ["", "## Weight", "", *weight_table(results["weight"])]
    if found := notes(results):
        lines += ["", "## Notes", "", *found]
    limits = {f"{row['threads']}": row["limits"] for row in results["rows"] if row["task"]["kind"]}
    if limits:
        lines += ["", "## Limits of the machine", "", *limits_table(results["rows"])]
    return "\n".join(lines) + "\n"


# Plot


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw how many times as fast as each peer cymlp is, a line per row, on a logarithmic axis."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["task"]["name"] for row in results["rows"]))
    peers = [p for p in COLOURS if any(ratio(row, p) for row in results["rows"])]
    with rc_context({"svg.hashsalt": "cymlp", "font.size": 9}):
        figure = Figure(figsize=(9, 1.6 + 0.27 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(1, color="black", linewidth=1)
        for row in results["rows"]:
            y = names.index(row["task"]["name"]) + (0.16 if row["threads"] > 1 else -0.16)
            for peer in peers:
                if value := ratio(row, peer):
                    face = COLOURS[peer] if row["threads"] == 1 else "white"
                    axes.plot(value, y, "o", color=COLOURS[peer], markerfacecolor=face, ms=5)
            for target in targets_of(row):
                if target.measure == "ratio" and target.peer in peers and row["threads"] == 1:
                    axes.plot(target.value, y, "|", color=COLOURS[target.peer], ms=9)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.grid(axis="y", color="#eeeeee")
        axes.set_axisbelow(True)
        axes.set_title(f"Times as fast as each peer, to the right: {OURS} is faster", loc="left")
        handles = [axes.plot([], [], "o", color=COLOURS[p], label=NAMES[p])[0] for p in peers]
        handles += [
            axes.plot([], [], "o", color="black", label="1 thread")[0],
            axes.plot([], [], "o", color="black", mfc="white", label="2 threads")[0],
            axes.plot([], [], "|", color="black", ms=9, label="target")[0],
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
        figure.savefig(path, metadata={"Date": None})


def write(results: dict[str, Any], stem: Path) -> None:
    """Write the table and the plot of a run to `stem` with their endings."""
    stem.with_suffix(".md").write_text(markdown(results), encoding="utf-8")
    if results["rows"]:
        plot(results, stem.with_suffix(".svg"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    source = Path(sys.argv[1])
    write(json.loads(source.read_text()), source.with_suffix(""))
