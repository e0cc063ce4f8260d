"""A result as a page in Markdown with a chart for each case."""

from __future__ import annotations

import statistics
from pathlib import Path

from bench.suite.charts import draw, number, quartiles
from bench.suite.result import Case, Result


def cell(text: str) -> str:
    """A text that stays within its cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def table(case: Case) -> str:
    """One line for each runner: median, quartiles, the ratio to the floor of the same round, and what was compared."""
    lines = [f"| runner | median, {case.unit} | quartiles | to the floor | rounds | before it was timed |"]
    lines.append("|---|---|---|---|---|---|")
    for who, runs in case.runs.items():
        low, high = quartiles(runs)
        ratios = case.to_floor(who)
        ratio = number(statistics.median(ratios)) if ratios else ""
        said = cell(case.agreed.get(who, ""))
        middle = f"{number(case.median(who))} | {number(low)} to {number(high)}"
        lines.append(f"| {cell(who)} | {middle} | {ratio} | {len(runs)} | {said} |")
    lines += [f"| {cell(who)} | absent | | | | {cell(why)} |" for who, why in case.absent.items()]
    lines += [f"| {cell(who)} | failed | | | | {cell(why)} |" for who, why in case.failed.items()]
    return "\n".join(lines) + "\n"


def page(result: Result, stem: str) -> str:
    """The page. stem: what the names of the charts begin with."""
    machine = result.machine
    memory = f"{float(machine['memory_bytes']) / 2**30:.0f} GiB"
    load = f"{float(machine['load_before']):.1f} before the run and {float(machine['load_after']):.1f} at its end"
    versions = ", ".join(f"{cell(who)} {cell(what)}" for who, what in result.versions.items())
    parts = [
        f"# Benchmarks of {result.date[:10]}\n",
        f"{machine['cpu']}, {machine['cpus']} CPUs, {memory}, {machine['kernel']}, {machine['distribution']}.",
        f"The load average was {load}; it does not tell the load of others from that of the run.",
        "Runners of a case take turns, so compare within a case. The bars are medians, the whiskers quartiles.\n",
        f"```\n{result.command}\n```\n",
        f"Versions: {versions}.\n",
    ]
    for case in result.cases:
        parts.append(f"## {case.title}\n")
        if case.runs:
            parts.append(f"![{case.title}]({stem}-{case.name}.svg)\n")
        parts.append(table(case))
    return "\n".join(parts)


def write(result: Result, stem: Path) -> list[Path]:
    """Write STEM.json, STEM.md and STEM-CASE.svg. Return the files."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = {f"{stem}.json": result.dump(), f"{stem}.md": page(result, stem.name)}
    files |= {f"{stem}-{case.name}.svg": draw(case) for case in result.cases if case.runs}
    for name, text in files.items():
        Path(name).write_text(text, encoding="utf-8")
    return [Path(name) for name in files]
