"""cymlp.progress: what verbose means, what is shown, and that nothing costs nothing."""

import io
import sys

import numpy as np
import pytest

from cymlp.progress import EpochProgress

LOGS = {"loss": 0.12345, "accuracy": 0.975}


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self):
        return True


def terminal_as_stderr(monkeypatch):
    """Put a terminal in stderr's place; not a fixture, since pytest sets stderr after those."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


@pytest.fixture
def without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)


def run(progress, n_epochs=2, n_samples=1000):
    for epoch in range(n_epochs):
        progress.start_epoch(epoch)
        for done in range(0, n_samples, n_samples // 4):
            progress.update(done, LOGS)
        progress.end_epoch({**LOGS, "val_loss": 0.5})
    progress.close()


def last_frames(stream):
    """What a terminal is left showing: of each line, the text after the last carriage return."""
    lines = stream.getvalue().split("\n")
    return [line.rpartition("\r")[2].rstrip() for line in lines if line.strip()]


# --------------------------------------------------------------------------- verbose


@pytest.mark.parametrize("verbose", [0, 1, 2, True, False, np.int64(2)])
def test_verbose_numbers(verbose):
    progress = EpochProgress(1, 10, verbose)
    assert progress.verbose == verbose and progress.enabled == bool(verbose)


@pytest.mark.parametrize("verbose", [3, -1, 1.0, 0.5, None, "yes", "1", "", [1], np.ones(2), 2**70])
def test_verbose_is_checked(verbose):
    with pytest.raises(ValueError, match='verbose: expected 0, 1, 2 or "auto", got '):
        EpochProgress(1, 10, verbose)


def test_auto_shows_a_bar_on_a_terminal(monkeypatch):
    terminal_as_stderr(monkeypatch)
    assert EpochProgress(1, 10).verbose == 1


def test_auto_is_quiet_elsewhere(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert EpochProgress(1, 10).verbose == 0


@pytest.mark.parametrize("stderr", [None, object()], ids=["no console", "not a stream"])
def test_auto_is_quiet_without_a_stream(monkeypatch, stderr):
    monkeypatch.setattr(sys, "stderr", stderr)
    assert EpochProgress(1, 10).verbose == 0


def test_auto_is_quiet_on_a_closed_stream(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    assert EpochProgress(1, 10).verbose == 0


def test_auto_without_tqdm_is_quiet(monkeypatch, without_tqdm):
    terminal = terminal_as_stderr(monkeypatch)
    progress = EpochProgress(1, 100, "auto")
    run(progress, n_epochs=1, n_samples=100)
    assert progress.verbose == 0 and terminal.getvalue() == ""


def test_bar_without_tqdm_says_what_to_install(without_tqdm):
    with pytest.raises(ImportError, match="pip install tqdm"):
        EpochProgress(1, 10, 1)


@pytest.mark.parametrize("verbose", [0, 2])
def test_tqdm_is_not_asked_for_in_vain(without_tqdm, verbose):
    assert EpochProgress(1, 10, verbose).verbose == verbose


# --------------------------------------------------------------------------- what is shown


def test_silent(capsys):
    run(EpochProgress(2, 1000, 0))
    assert capsys.readouterr() == ("", "")


def test_line_per_epoch(capsys):
    run(EpochProgress(12, 1000, 2), n_epochs=12)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == "" and len(lines) == 12
    assert lines[0].startswith("Epoch  1/12  loss 0.1235  accuracy 0.9750  val_loss 0.5000  [0.0")
    assert lines[-1].startswith("Epoch 12/12  ") and lines[-1].endswith("samples/s]")


def test_bar_per_epoch(monkeypatch, capsys):
    terminal = terminal_as_stderr(monkeypatch)
    run(EpochProgress(2, 1000, 1))
    assert capsys.readouterr().out == ""
    frames = last_frames(terminal)
    assert len(frames) == 2
    for number, frame in enumerate(frames, 1):
        assert frame.startswith(f"Epoch {number}/2 100%|")
        assert "samples/s" in frame
        assert "loss 0.1235, accuracy 0.9750, val_loss 0.5000" in frame


def test_bar_in_the_middle_of_an_epoch(monkeypatch):
    terminal = terminal_as_stderr(monkeypatch)
    progress = EpochProgress(5, 400, 1)
    progress.start_epoch(2)
    monkeypatch.setattr("cymlp.progress._MIN_INTERVAL", 0)
    progress._bar.mininterval = 0
    progress.update(100, {"loss": 1.5})
    progress._bar.refresh()
    frame = last_frames(terminal)[-1]
    assert frame.startswith("Epoch 3/5  25%|") and "loss 1.5000" in frame and "<" in frame
    progress.close()


def test_bar_is_left_unfinished_when_training_stops(monkeypatch):
    terminal = terminal_as_stderr(monkeypatch)
    progress = EpochProgress(5, 400, 1)
    progress.start_epoch(0)
    progress.update(100, {"loss": 1.5})
    progress.close()
    progress.close()
    assert terminal.getvalue().endswith("\n")
    assert last_frames(terminal)[-1].startswith("Epoch 1/5  25%|")


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_close_before_the_first_epoch(monkeypatch, verbose, capsys):
    terminal = terminal_as_stderr(monkeypatch)
    EpochProgress(5, 400, verbose).close()
    assert terminal.getvalue() == "" and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0, "0.0000"),
        (0.12344, "0.1234"),
        (-1.5, "-1.5000"),
        (1e-3, "0.0010"),
        (9.4e-4, "9.400e-04"),
        (123456.0, "1.235e+05"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (np.float32(0.5), "0.5000"),
    ],
)
def test_values_are_short_and_never_all_zeros(capsys, value, text):
    progress = EpochProgress(1, 10, 2)
    progress.start_epoch(0)
    progress.end_epoch({"loss": value})
    assert capsys.readouterr().out.split("  ")[1] == f"loss {text}"


@pytest.mark.parametrize(
    "n_samples, seconds, rate",
    [
        (10, 1.0, "10 samples/s"),
        (5000, 2.0, "2.5 k samples/s"),
        (3_000_000, 1.0, "3.0 M samples/s"),
    ],
)
def test_samples_per_second(capsys, monkeypatch, n_samples, seconds, rate):
    clock = iter([100.0, 100.0 + seconds])
    monkeypatch.setattr("cymlp.progress.time.perf_counter", lambda: next(clock))
    progress = EpochProgress(1, n_samples, 2)
    progress.start_epoch(0)
    progress.end_epoch({"loss": 1.0})
    assert capsys.readouterr().out.endswith(f"[{seconds:.2f} s, {rate}]\n")


def test_bar_is_a_widget_in_a_notebook(monkeypatch):
    """What tqdm.auto gives is what is used: in a notebook that is the widget."""
    made = []

    class Widget:
        def __init__(self, **options):
            self.n = 0
            made.append((self, options))

        def set_postfix_str(self, text, refresh):
            self.text = text

        def update(self, more):
            self.n += more

        def close(self):
            self.closed = True

    monkeypatch.setattr("tqdm.auto.tqdm", Widget)
    run(EpochProgress(1, 1000, 1), n_epochs=1)
    ((widget, options),) = made
    assert widget.n == options["total"] == 1000 and widget.closed
    assert widget.text == "loss 0.1235, accuracy 0.9750, val_loss 0.5000"
    # tqdm.notebook puts its widget where it finds exactly this.
    assert "{bar}" in options["bar_format"]
