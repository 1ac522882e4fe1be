"""The command line: ``cymlp demo``, ``cymlp explain`` and ``cymlp config``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import cymlp
from cymlp._validate import MAX_THREADS

__all__ = ["main"]

_EXIT_TROUBLE = 2  # as argparse
_EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells do
_EXIT_PIPE = 141  # 128 + SIGPIPE
_MAX_COUNT = 2**31 - 1  # what Dense takes
_MAX_SEED = 2**32 - 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; by default those of the process.

    Returns
    -------
    int
        0 after success, 2 where the input cannot be used (said in one line on stderr), 130 after
        Ctrl-C.

    Raises
    ------
    SystemExit
        With code 2 for arguments that do not parse, and 0 after ``--help`` and ``--version``.

    Examples
    --------
    >>> from cymlp.cli import main
    >>> main(["demo", "--epochs", "5", "--quiet"])      # doctest: +SKIP
    test accuracy 96.67% (348 of 360), trained in 0.02 s
    picture: cymlp-demo.png
    0
    """
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away, as `head` does. Python flushes stdout once more
        # when it exits and would complain again: give it somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_PIPE


def _trouble(command: str, message: str) -> int:
    """Say in one line what a command cannot use; return its exit code."""
    print(f"cymlp {command}: error: {message}", file=sys.stderr)
    return _EXIT_TROUBLE


def _run_demo(arguments: argparse.Namespace) -> int:
    from cymlp.demo import DemoError, run_demo

    if arguments.threads is not None:
        cymlp.set_num_threads(arguments.threads)
    try:
        run_demo(
            mnist=arguments.mnist,
            hidden=arguments.hidden,
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            output=arguments.output,
            quiet=arguments.quiet,
        )
    except (DemoError, ImportError, MemoryError) as error:
        return _trouble("demo", str(error) or "out of memory")
    return 0


def _run_explain(arguments: argparse.Namespace) -> int:
    from cymlp.exceptions import SettingError
    from cymlp.setting import WORKED_EXAMPLE, explain_setting, read_setting

    try:
        setting = WORKED_EXAMPLE if arguments.setting is None else read_setting(arguments.setting)
        trace = explain_setting(setting)
        shown = {"digits": arguments.digits, "most": arguments.most}
        written = False
        for kind, write in (
            ("html", trace.to_html),
            ("latex", lambda: trace.to_latex(**shown)),
            ("markdown", lambda: trace.to_markdown(**shown)),
            ("json", trace.to_json),
        ):
            path = getattr(arguments, kind)
            if path is not None:
                _write(path, write())
                written = True
        if not written:
            print(trace.to_text(**shown))
    except (SettingError, MemoryError) as error:
        return _trouble("explain", str(error) or "out of memory")
    except BrokenPipeError:
        raise
    except OSError as error:
        return _trouble("explain", f"{error.filename}: {error.strerror}")
    return 0


def _write(path: str, text: str) -> None:
    """Write a file, or to stdout for a dash."""
    if path == "-":
        print(text)
    else:
        Path(path).write_text(text, encoding="utf-8")
        print(path)


def _run_config(arguments: argparse.Namespace) -> int:
    cymlp.show_config()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cymlp",
        description="Multilayer perceptrons, trained by compiled SIMD kernels.",
    )
    parser.add_argument("--version", action="version", version=f"cymlp {cymlp.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = commands.add_parser(
        "demo",
        help="train on real handwritten digits, print the accuracy, draw a picture",
        description="Train a network on real handwritten digits; print its accuracy on a test set "
        "and a table per class; draw the loss curves, the confusion matrix and the digits that it "
        "got wrong.",
        epilog="Without --mnist the data are scikit-learn's bundled digits: 1797 images of 8 x 8 "
        "pixels, nothing is downloaded.",
    )
    demo.add_argument(
        "--mnist",
        metavar="DIR",
        help="train on MNIST instead: the folder with its four IDX files, gzipped or not",
    )
    demo.add_argument(
        "--epochs",
        type=_positive,
        metavar="N",
        help="passes over the training set (default: 40; 5 with --mnist)",
    )
    demo.add_argument(
        "--batch-size",
        type=_positive,
        metavar="N",
        help="samples per step (default: 16; 64 with --mnist)",
    )
    demo.add_argument(
        "--hidden",
        type=_positive,
        nargs="+",
        metavar="N",
        help="units of each hidden layer, first to last (default: 256; 128 with --mnist)",
    )
    demo.add_argument(
        "--seed",
        type=_seed,
        default=0,
        metavar="N",
        help="seed of the initial weights and of the shuffling (default: 0)",
    )
    demo.add_argument(
        "--threads",
        type=_threads,
        metavar="N",
        help="threads to use (default: one per core); the result does not depend on it",
    )
    demo.add_argument(
        "--output",
        default="cymlp-demo.png",
        metavar="FILE",
        help="the picture; its ending chooses the format (default: %(default)s)",
    )
    demo.add_argument(
        "--quiet", action="store_true", help="print the result only: no progress, no table"
    )
    demo.set_defaults(run=_run_demo)

    explain = commands.add_parser(
        "explain",
        help="print every number of a forward pass, a backward pass and an update",
        description="Print the working of a small network, line by line: weighted sums, "
        "activations, the loss, each derivative by the chain rule, the average over the batch and "
        "the updated weights.",
        epilog="Without a setting it is an example that was worked by hand, of 3 inputs, 3 hidden "
        "units and 2 outputs; --json - shows its numbers. What a setting holds is told by "
        "`python -m pydoc cymlp.setting`.",
    )
    explain.add_argument(
        "setting",
        nargs="?",
        metavar="SETTING",
        help="a JSON file with layers, weights, sample, target, loss and learning_rate",
    )
    for kind, what in (
        ("html", "an interactive page"),
        ("latex", "a LaTeX document"),
        ("markdown", "Markdown"),
        ("json", "all arrays as JSON"),
    ):
        explain.add_argument(
            f"--{kind}", metavar="FILE", help=f"write {what} instead of text; - for stdout"
        )
    explain.add_argument(
        "--digits",
        type=_digits,
        default=6,
        metavar="N",
        help="significant digits of the numbers, 1 to 17 (default: %(default)s)",
    )
    explain.add_argument(
        "--most",
        type=_positive,
        default=8,
        metavar="N",
        help="terms of a sum and units of a layer that are written out (default: %(default)s)",
    )
    explain.set_defaults(run=_run_explain)

    config = commands.add_parser(
        "config",
        help="show how this installation was built and what it uses",
        description="Show the version, the instruction sets, OpenMP, the threads and the compiler.",
    )
    config.set_defaults(run=_run_config)
    return parser


def _positive(text: str) -> int:
    return _whole(text, 1, _MAX_COUNT, f"a whole number from 1 to {_MAX_COUNT}")


def _threads(text: str) -> int:
    return _whole(text, 1, MAX_THREADS, f"a whole number from 1 to {MAX_THREADS}")


def _digits(text: str) -> int:
    return _whole(text, 1, 17, "a whole number from 1 to 17")


def _seed(text: str) -> int:
    return _whole(text, 0, _MAX_SEED, f"a whole number from 0 to {_MAX_SEED}")


def _whole(text: str, least: int, most: int, expected: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return value
