"""``python benchmarks``: time cymlp and its peers, and write JSON, a table and a plot."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fresh
import machine
import peers
import report
import run
from workloads import REGIMES, chosen

RESULTS = Path(__file__).parent / "results"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows, a tenth of the samples")
    parser.add_argument("--only", metavar="REGIME", action="append", default=[], choices=REGIMES,
                        help=f"may be repeated; one of: {', '.join(REGIMES)}")  # fmt: skip
    parser.add_argument("--threads", metavar="N,M", default="1,2", help="(default: %(default)s)")
    parser.add_argument("--repeats", metavar="N", type=int, help="(default: 7; 3 with --quick)")
    parser.add_argument("--libraries", metavar="A,B", default=",".join(peers.NAMES),
                        help="(default: %(default)s)")  # fmt: skip
    parser.add_argument("--mnist", metavar="DIR", default=os.environ.get("CYMLP_MNIST_DIR"),
                        help="a folder with MNIST's IDX files; enlarged digits stand in for them "
                             "otherwise (default: CYMLP_MNIST_DIR)")  # fmt: skip
    parser.add_argument("--wheel", metavar="FILE", type=Path, help="whose size is reported")
    parser.add_argument("--out", metavar="DIR", type=Path,
                        default=RESULTS, help="(default: %(default)s)")  # fmt: skip
    chosen_arguments = parser.parse_args(argv)
    check(parser, chosen_arguments)
    return chosen_arguments


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse what could not be run; turn lists in text into tuples."""
    try:
        options.threads = tuple(int(count) for count in options.threads.split(","))
    except ValueError:
        parser.error(f"argument --threads: expected counts such as 1,2, got {options.threads!r}")
    if options.repeats is None:
        options.repeats = 3 if options.quick else 7
    if min(options.repeats, *options.threads) < 1:
        parser.error("arguments --threads, --repeats: expected numbers of at least 1")
    options.libraries = tuple(options.libraries.split(","))
    unknown = set(options.libraries) - set(peers.NAMES)
    if unknown:
        parser.error(f"argument --libraries: expected some of {', '.join(peers.NAMES)}, got "
                     f"{', '.join(sorted(unknown))}")  # fmt: skip
    if options.wheel is not None and not options.wheel.is_file():
        parser.error(f"argument --wheel: expected a file, got {str(options.wheel)!r}")
    most = machine.most_threads()
    for count in options.threads:
        if count > most:
            print(f"{count} threads are left out: there are {most} cores.", file=sys.stderr)
    options.threads = tuple(count for count in options.threads if count <= most)
    if not options.threads:
        parser.error(f"argument --threads: expected at most {most}, the number of cores")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    settings = run.Settings(options.threads, options.repeats, options.mnist, options.libraries)
    began = time.time()
    found: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine.description(),
        "versions": {name: peers.version(name) for name in peers.NAMES if peers.installed(name)},
        "threads": options.threads,
        "repeats": options.repeats,
        "quick": options.quick,
        "images": "MNIST" if options.mnist else report.STAND_IN,
        "rows": [],
    }
    with run.pool() as workers:
        for task in chosen(options.only, options.quick):
            start = time.time()
            found["rows"] += run.time_task(task, settings, workers)
            print(f"{time.time() - start:6.1f} s  {task.name}", file=sys.stderr, flush=True)
        found["restless"] = workers.restless()
    wanted = options.only or REGIMES
    if "memory" in wanted:
        found["memory"] = fresh.memory(settings, options.quick)
    if "weight" in wanted:
        found["weight"] = fresh.weight(settings, options.wheel)
    found["seconds"] = round(time.time() - began)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(argv)
    found = measure(options)
    options.out.mkdir(parents=True, exist_ok=True)
    name = "quick" if options.quick else "results"
    written = options.out / f"{name}.json"
    written.write_text(json.dumps(found, indent=1) + "\n")
    report.write(found, options.out / name)
    print(f"{written} and the files beside it, after {found['seconds']} s", file=sys.stderr)


if __name__ == "__main__":
    main()
