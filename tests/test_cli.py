"""The command line, the demonstration behind it, and the examples, run as a user runs them."""

import gzip
import importlib
import json
import os
import re
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest
from conftest import SOURCE_TREE, python_environment

import cymlp
from cymlp import cli, demo
from cymlp.datasets import load_digits

DEMO_PACKAGES = ("sklearn", "matplotlib")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    """The picture goes to the current directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def demo_packages():
    for package in DEMO_PACKAGES:
        pytest.importorskip(package)


def cymlp_process(*arguments, **options):
    """Run ``python -m cymlp`` and return the completed process, output as text."""
    return subprocess.run(
        [sys.executable, "-m", "cymlp", *arguments],
        env=python_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def refused(capsys, *arguments):
    """Run arguments that argparse must refuse and return the last line of stderr."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    return err.splitlines()[-1]


def trouble(capsys, *arguments):
    """Run a demo that cannot work and return its one line on stderr."""
    assert cli.main(["demo", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("cymlp demo: error: ")
    return err.removeprefix("cymlp demo: error: ").rstrip("\n")


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") and path.stat().st_size > 10_000


# --------------------------------------------------------------------------- the command line


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"cymlp {cymlp.__version__}\n"


def test_config_shows_what_show_config_shows(capsys):
    cymlp.show_config()
    expected = capsys.readouterr().out
    assert cli.main(["config"]) == 0
    assert capsys.readouterr().out == expected
    assert cymlp.__version__ in expected


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["config", "--help"]])
def test_help(capsys, arguments):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: cymlp") and err == ""


def test_help_names_every_option_and_its_default(capsys):
    with pytest.raises(SystemExit):
        cli.main(["demo", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "1797 images" in text
    for option, default in {
        "--epochs": "40; 5 with --mnist",
        "--batch-size": "16; 64 with --mnist",
        "--hidden": "256; 128 with --mnist",
        "--seed": "0",
        "--threads": "one per core",
        "--output": "cymlp-demo.png",
    }.items():
        assert re.search(rf"{option} [A-Z].*?\(default: {re.escape(default)}\)", text), option


def test_defaults_in_the_help_are_those_used(demo_packages, monkeypatch):
    digits = demo._digits_task()
    assert (digits.hidden, digits.epochs, digits.batch_size) == ((256,), 40, 16)
    empty = np.zeros((1, 784), np.uint8)
    monkeypatch.setattr(demo, "load_mnist", lambda folder: demo.Split(empty, [0], empty, [0]))
    mnist = demo._mnist_task("")
    assert (mnist.hidden, mnist.epochs, mnist.batch_size) == ((128,), 5, 64)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "cymlp: error: the following arguments are required: COMMAND"),
        (["train"], "cymlp: error: argument COMMAND: invalid choice: 'train'"),
        (["demo", "extra"], "cymlp: error: unrecognized arguments: extra"),
        (["config", "--seed", "1"], "cymlp: error: unrecognized arguments: --seed 1"),
        (["demo", "--mnist"], "cymlp demo: error: argument --mnist: expected one argument"),
        (["demo", "--hidden"], "argument --hidden: expected at least one argument"),
    ],
)
def test_arguments_that_are_none(capsys, arguments, message):
    assert message in refused(capsys, *arguments)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "", "ten", "1e3", str(2**31), "0x10"])
@pytest.mark.parametrize("option", ["--epochs", "--batch-size", "--hidden", "--threads"])
def test_counts_are_checked(capsys, option, value):
    most = 1024 if option == "--threads" else 2**31 - 1
    expected = f"argument {option}: expected a whole number from 1 to {most}, got {value!r}"
    # With "=", since argparse takes -1 for an option otherwise.
    assert refused(capsys, "demo", f"{option}={value}") == f"cymlp demo: error: {expected}"


def test_every_hidden_layer_is_checked(capsys):
    assert "argument --hidden: expected" in refused(capsys, "demo", "--hidden", "32", "0")


@pytest.mark.parametrize("value", ["-1", "0.5", "x", str(2**32)])
def test_seed_is_checked(capsys, value):
    expected = f"argument --seed: expected a whole number from 0 to 4294967295, got {value!r}"
    assert refused(capsys, "demo", f"--seed={value}").endswith(expected)


def test_threads_are_bounded_as_in_the_library(capsys):
    cymlp.set_num_threads(1024)
    with pytest.raises(ValueError):
        cymlp.set_num_threads(1025)
    refused(capsys, "demo", "--threads", "1025")


# --------------------------------------------------------------------------- the demonstration


def test_demo_reaches_its_aim(demo_packages, tmp_path, capsys):
    """As shipped, no options: 97% or better in less than 10 seconds of training."""
    assert cli.main(["demo"]) == 0
    out, err = capsys.readouterr()
    found = re.search(
        r"^test accuracy ([\d.]+)% \((\d+) of 360\), trained in ([\d.]+) s$", out, re.M
    )
    accuracy, n_right, _ = map(float, found.groups())
    assert accuracy == round(100 * n_right / 360, 2) >= 97
    assert "1,437 training images" in out and "360 test images of 8 x 8 pixels" in out
    assert "network 64-256-10: 19,210 parameters, float32" in out
    assert is_png(tmp_path / "cymlp-demo.png") and "picture: cymlp-demo.png" in out
    # Not a terminal: no bar, a line per epoch, those of the lower learning rate counted anew.
    assert err == ""
    assert len(re.findall(r"^Epoch +\d+/32  loss .* val_accuracy .*samples/s\]$", out, re.M)) == 32
    assert len(re.findall(r"^Epoch \d/8  loss ", out, re.M)) == 8
    assert out.index("learning rate 0.05\n") < out.index("learning rate 0.005\n")


def test_demo_table_is_of_the_same_predictions(demo_packages, capsys):
    assert cli.main(["demo", "--epochs", "2"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"precision +recall +f1-score +support", out)
    rows = re.findall(r"^ +(\d) +([\d.]+) +([\d.]+) +([\d.]+) +(\d+)$", out, re.M)
    assert [int(row[0]) for row in rows] == list(range(10))
    support = np.array([int(row[4]) for row in rows])
    np.testing.assert_array_equal(support, np.bincount(load_digits().y_test))
    n_right = sum(round(float(row[2]) * n) for row, n in zip(rows, support, strict=True))
    assert f"({n_right} of 360)" in out


def test_demo_quiet(demo_packages, capsys):
    assert cli.main(["demo", "--epochs", "1", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(
        r"test accuracy [\d.]+% \(\d+ of 360\), trained in [\d.]+ s\npicture: cymlp-demo.png\n", out
    )
    assert err == ""


def test_demo_options(demo_packages, tmp_path, capsys):
    output = tmp_path / "a.svg"
    code = cli.main(
        f"demo --epochs 6 --batch-size 100 --hidden 20 15 --seed 9 --threads 1 --output {output}"
        .split()
    )  # fmt: skip
    out = capsys.readouterr().out
    assert code == 0
    assert "network 64-20-15-10" in out and "up to 1 threads" in out
    assert "Epoch 5/5" in out and "Epoch 1/1" in out
    assert b"<svg" in output.read_bytes()
    assert cymlp.get_num_threads() == 1


def test_demo_follows_its_seed_alone(demo_packages, monkeypatch):
    pictures = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path: None)
    monkeypatch.setattr(
        "cymlp.plots.plot_demo",
        recorded(pictures, importlib.import_module("cymlp.plots").plot_demo),
    )
    for seed, threads in ((1, 1), (1, 2), (2, 1)):
        assert cli.main(f"demo --epochs 2 --seed {seed} --threads {threads} --quiet".split()) == 0
    losses = [history.history["loss"] for history, *_ in pictures]
    assert losses[0] == losses[1] != losses[2]
    assert [len(values) for values in losses] == [2, 2, 2]
    assert pictures[0][0].epoch == [0, 1]
    np.testing.assert_array_equal(pictures[0][2], pictures[2][2])  # the same test set


def recorded(calls, function):
    def call(*arguments, **options):
        calls.append(arguments)
        return function(*arguments, **options)

    return call


def test_demo_shows_bars_on_a_terminal(demo_packages, monkeypatch, capsys):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert cli.main(["demo", "--epochs", "2"]) == 0
    out, err = capsys.readouterr()
    assert "Epoch" not in out
    # How often a bar is drawn depends on the machine: what counts is how each is left.
    bars = [line.rsplit("\r", 1)[-1] for line in err.strip().split("\n")]
    assert len(bars) == 2
    assert all(bar.startswith("Epoch 1/1 100%|") and "samples/s, loss " in bar for bar in bars)


def test_single_epoch_has_the_whole_learning_rate(demo_packages, capsys):
    assert cli.main(["demo", "--epochs", "1"]) == 0
    assert capsys.readouterr().out.count("learning rate") == 1


def test_shifts_move_by_one_pixel():
    image = np.zeros((1, 4, 4), np.float32)
    image[0, 1, 2] = 1
    shifted = demo._with_shifts(image.reshape(1, 16), 4).reshape(5, 4, 4)
    assert shifted.dtype == np.float32
    places = [tuple(np.argwhere(one)[0]) for one in shifted]
    assert places == [(1, 2), (2, 2), (0, 2), (1, 3), (1, 1)]
    edge = np.zeros((1, 16), np.float32)
    edge[0, 3] = 1
    assert demo._with_shifts(edge, 4).sum(axis=1).tolist() == [1, 1, 0, 0, 1]


def test_run_demo_returns_the_accuracy(demo_packages, capsys):
    accuracy = demo.run_demo(epochs=1, hidden=(), quiet=True)
    assert f"{accuracy:.2%}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", [{"epochs": 0}, {"batch_size": 0}, {"hidden": [0]}, {"seed": -1}]
)
def test_run_demo_checks_its_numbers(demo_packages, option):
    with pytest.raises(ValueError):
        demo.run_demo(quiet=True, **option)


# --------------------------------------------------------------------------- trouble


@pytest.mark.parametrize(
    "output, message",
    [
        ("picture", "expected a name that ends in one of .*.png.*, got 'picture'"),
        ("a.xyz", "expected a name that ends in one of .*.pdf.*, got 'a.xyz'"),
        (os.path.join("no", "where.png"), "expected a path in a folder that exists, got '.*where"),
        (".", "expected a file's name, got the folder"),
        ("", "expected a file's name, got the folder"),
    ],
)
def test_output_is_judged_before_the_training(demo_packages, capsys, monkeypatch, output, message):
    monkeypatch.setattr(demo, "_train", None)
    assert re.match("output: " + message, trouble(capsys, "--output", output))


def test_output_that_cannot_be_written(demo_packages, capsys, monkeypatch):
    def savefig(self, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)
    assert cli.main(["demo", "--epochs", "1", "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert err == "cymlp demo: error: cymlp-demo.png: No space left on device\n"
    assert out.startswith("test accuracy") and "picture" not in out


@pytest.mark.parametrize("package", DEMO_PACKAGES)
def test_missing_package_says_what_to_install(demo_packages, capsys, monkeypatch, package):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "cymlp.plots", raising=False)
    assert 'pip install "cymlp[demo]"' in trouble(capsys)


def test_too_large_a_network(demo_packages, capsys, monkeypatch):
    def no_memory(*arguments):
        raise MemoryError

    monkeypatch.setattr(demo, "_train", no_memory)
    assert cli.main(["demo", "--quiet"]) == 2
    assert capsys.readouterr().err == "cymlp demo: error: out of memory\n"


def test_interrupt(capsys, monkeypatch):
    def interrupted(**options):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run_demo", interrupted)
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_while_training(demo_packages):
    # The child of a shell's background job ignores SIGINT, and so would its children.
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from cymlp.cli import main; sys.exit(main(['demo', '--epochs', '1000000']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=python_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout:
            if line.startswith("Epoch"):
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err == "\ninterrupted\n"
    assert "test accuracy" not in out and not os.path.exists("cymlp-demo.png")


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX pipes")
def test_reader_that_goes_away(demo_packages):
    process = subprocess.Popen(
        [sys.executable, "-m", "cymlp", "demo", "--epochs", "1000000"],
        env=python_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.stderr.close()


# --------------------------------------------------------------------------- MNIST


def write_idx(path, array, packed=True):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content, 1) if packed else content)


@pytest.fixture
def mnist(demo_packages, tmp_path):
    """A folder of IDX files: the bundled digits, each pixel three wide in a frame of two."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    X_train, y_train, X_test, y_test = load_digits()
    for part, X, y in (("train", X_train, y_train), ("t10k", X_test, y_test)):
        images = (X.reshape(-1, 8, 8) * 255).astype(np.uint8)
        images = np.pad(images.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", y.astype(np.uint8), packed=False)
    return folder


def test_mnist_demo(mnist, tmp_path, capsys):
    assert cli.main(["demo", "--mnist", str(mnist), "--output", "mnist.png"]) == 0
    out = capsys.readouterr().out
    assert "MNIST: 1,437 training and 360 test images of 28 x 28 pixels" in out
    assert "network 784-128-10: 101,770 parameters" in out
    assert "Epoch 4/4" in out and "Epoch 1/1" in out
    assert float(re.search(r"test accuracy ([\d.]+)%", out)[1]) > 90
    assert is_png(tmp_path / "mnist.png")


def test_mnist_pixels_are_scaled_to_one(mnist):
    data = demo._mnist_task(mnist).data
    for X in (data.X_train, data.X_test):
        assert X.dtype == np.float32 and X.min() == 0 and X.max() == 1


def test_mnist_missing_folder(demo_packages, capsys):
    message = trouble(capsys, "--mnist", "nowhere")
    assert message == "nowhere: expected a folder with MNIST's IDX files"


def test_mnist_missing_file(mnist, capsys):
    (mnist / "t10k-labels-idx1-ubyte").unlink()
    assert "expected one of t10k-labels-idx1-ubyte, " in trouble(capsys, "--mnist", str(mnist))


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"])
def test_mnist_truncated_file(mnist, capsys, name):
    path = mnist / name
    path.write_bytes(path.read_bytes()[:-20])
    assert trouble(capsys, "--mnist", str(mnist)).startswith(f"{path}: expected ")


def test_mnist_mislabelled_file(mnist, capsys):
    labels = (mnist / "train-labels-idx1-ubyte").read_bytes()
    (mnist / "train-images-idx3-ubyte.gz").write_bytes(labels)
    assert "expected images (uint8, shape (n, 28, 28))" in trouble(capsys, "--mnist", str(mnist))


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root reads everything")
def test_mnist_unreadable_file(mnist, capsys):
    path = mnist / "t10k-labels-idx1-ubyte"
    path.chmod(0)
    assert trouble(capsys, "--mnist", str(mnist)) == f"{path}: Permission denied"


@pytest.mark.skipif(
    "CYMLP_MNIST_DIR" not in os.environ, reason="CYMLP_MNIST_DIR does not name MNIST's folder"
)
def test_real_mnist_reaches_its_aim(demo_packages, tmp_path):
    """784-128-10, five epochs: more than 97.5% of the test set."""
    accuracy = demo.run_demo(mnist=os.environ["CYMLP_MNIST_DIR"], output=tmp_path / "mnist.png")
    assert accuracy > 0.975


# --------------------------------------------------------------------------- as a process


def test_module_runs_the_command_line():
    process = cymlp_process("--version")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == f"cymlp {cymlp.__version__}\n"


def test_exit_code_and_stderr_of_a_process(demo_packages):
    process = cymlp_process("demo", "--mnist", "nowhere")
    assert process.returncode == 2 and process.stdout == ""
    assert process.stderr.count("\n") == 1 and "nowhere" in process.stderr


def test_console_script_is_declared():
    from importlib.metadata import PackageNotFoundError, entry_points, version

    try:
        version("cymlp")
    except PackageNotFoundError:
        pytest.skip("cymlp is not installed, it runs from its source tree")
    (script,) = entry_points(group="console_scripts", name="cymlp")
    assert script.value == "cymlp.cli:main"


def test_help_needs_no_optional_package():
    code = (
        "import sys; sys.argv = ['cymlp', 'demo', '--help']\n"
        "for name in ('sklearn', 'matplotlib', 'tqdm'): sys.modules[name] = None\n"
        "from cymlp.cli import main; main()"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], env=python_environment(), capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    assert "--mnist" in process.stdout


# --------------------------------------------------------------------------- examples

EXAMPLES = sorted(SOURCE_TREE.glob("examples/*.py")) if SOURCE_TREE else []


@pytest.mark.skipif(SOURCE_TREE is None, reason="these tests stand in no source tree")
def test_there_are_examples():
    assert {path.stem for path in EXAMPLES} >= {"xor", "digits", "digits_pipeline"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_prints_what_it_says(demo_packages, path):
    process = subprocess.run(
        [sys.executable, str(path)],
        env=python_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (process.returncode, process.stderr) == (0, "")
    if path.stem == "xor":
        assert [line.split()[-1] for line in process.stdout.splitlines()[-4:]] == list("0110")
    else:
        accuracy = float(re.search(r"test accuracy ([\d.]+)%", process.stdout)[1])
        assert accuracy >= 96


# ---------------------------------------------------------------------- explain


def test_explain_prints_the_worked_example(capsys):
    assert cli.main(["explain"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "sigmoid(K1) = 1/(1 + exp(0.27)) = 0.432907" in out
    assert cli.main(["explain", "--digits", "3", "--most", "2"]) == 0
    out, _ = capsys.readouterr()
    assert "= 0.433" in out and "[1 more: " in out


@pytest.mark.parametrize(
    ("kind", "start"),
    [
        ("html", "<!doctype html>"),
        ("latex", "\\documentclass"),
        ("markdown", "## Network"),
        ("json", '{"format": "cymlp trace 1"'),
    ],
)
def test_explain_writes_files(tmp_path, capsys, kind, start):
    path = tmp_path / "out"
    assert cli.main(["explain", f"--{kind}", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    text = path.read_text(encoding="utf-8")
    assert text.lower().startswith(start.lower())
    assert cli.main(["explain", f"--{kind}", "-"]) == 0
    assert capsys.readouterr().out.rstrip() == text.rstrip()


def test_explain_reads_a_setting(tmp_path, capsys):
    path = tmp_path / "setting.json"
    setting = {
        "layers": [{"units": 1}],
        "weights": [[[2.0]], [0.5]],
        "sample": [3.0],
        "target": [6.0],
        "loss": "squared_error",
        "learning_rate": 0.1,
    }
    path.write_text(json.dumps(setting), encoding="utf-8")
    assert cli.main(["explain", str(path)]) == 0
    assert "J1 = I1*w(I1,J1) + b(J1) = 3*2 + 0.5 = 6.5" in capsys.readouterr().out
    for wrong, message in (
        ({"loss": None}, "error: loss must be a name, got null"),
        ({"weights": [[[2.0]]]}, "error: weights must have 2 arrays, got 1"),
    ):
        path.write_text(json.dumps(setting | wrong), encoding="utf-8")
        assert cli.main(["explain", str(path)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err == f"cymlp explain: {message}\n"


def test_explain_says_what_it_cannot_read_or_write(tmp_path, capsys):
    assert cli.main(["explain", str(tmp_path / "none.json")]) == 2
    assert "none.json: No such file or directory" in capsys.readouterr().err
    assert cli.main(["explain", "--latex", str(tmp_path / "none" / "out.tex")]) == 2
    assert "out.tex: No such file or directory" in capsys.readouterr().err
    assert "from 1 to 17, got '18'" in refused(capsys, "explain", "--digits", "18")
