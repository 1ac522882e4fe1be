"""The benchmark suite does the same work in every library and says truly what came out."""

import importlib
import importlib.util
import json
import sys

import numpy as np
import pytest
from conftest import SOURCE_TREE

if SOURCE_TREE is None or not (SOURCE_TREE / "benchmarks").is_dir():
    pytest.skip("these tests stand in no source tree", allow_module_level=True)

BENCHMARKS = SOURCE_TREE / "benchmarks"
TRAINERS = ("cymlp", "numpy", "sklearn", "jax", "torch")


@pytest.fixture(scope="module")
def suite():
    """The suite's modules, which import each other by their bare names."""
    sys.path.insert(0, str(BENCHMARKS))
    names = ("workloads", "data", "peers", "machine", "run", "worker", "report")
    yield type("Suite", (), {name: importlib.import_module(name) for name in names})
    sys.path.remove(str(BENCHMARKS))
    for name in [name for name in sys.modules if name.split(".")[0] in names]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def _settings_of_scikit_learn_are_restored():
    """The suite turns checks off, in processes of its own."""
    if importlib.util.find_spec("sklearn") is None:
        yield
        return
    from sklearn import config_context

    with config_context():
        yield


def task(suite, **changes):
    fields = {
        "name": "small, 5-6-3, batch 4", "regime": "small", "kind": "train", "data": "gaussian",
        "sizes": (5, 6, 3), "batch": 4, "samples": 26, "epochs": 3,
    }  # fmt: skip
    return suite.workloads.Task(**fields | changes)


def result_of(suite, library, work):
    if not suite.peers.installed(library):
        pytest.skip(f"{library} is not installed")
    arrays = suite.data.make(work)
    job = suite.peers.load(library).job(work, arrays)
    job.run() if work.kind != "train" else (job.reset(), job.run(), job.reset(), job.run())
    return job.result(), arrays


# --------------------------------------------------------------------------- workloads and data


def test_tasks_have_names_of_their_own_and_survive_json(suite):
    tasks = suite.workloads.TASKS
    assert len({each.name for each in tasks}) == len(tasks)
    for each in tasks:
        assert suite.workloads.Task.from_json(json.loads(json.dumps(each.to_json()))) == each


def test_subset_is_smaller(suite):
    full = {each.name: each for each in suite.workloads.chosen()}
    quick = suite.workloads.chosen(quick=True)
    assert 0 < len(quick) < len(full)
    for each in quick:
        assert each.samples <= full[each.name].samples
        assert each.epochs <= full[each.name].epochs and each.calls <= full[each.name].calls
    assert {each.regime for each in quick} == {each.regime for each in full.values()}


def test_one_regime_is_chosen(suite):
    assert {each.regime for each in suite.workloads.chosen(["tiny"])} == {"tiny"}


def test_flops_count_what_the_formulas_multiply(suite):
    # Forward and weight gradient over both kernels, delta propagation through the second alone.
    assert task(suite).flops(24) == 3 * 24 * 2 * (2 * (5 * 6 + 6 * 3) + 6 * 3)
    assert task(suite, kind="predict", calls=2).flops(4) == 2 * 4 * 2 * (5 * 6 + 6 * 3)


def test_traffic_counts_what_is_larger_than_the_cache(suite):
    samples, parameters = 4 * 24 * (5 + 3), 4 * (5 * 6 + 6 * 3)
    steps = 24 / 4
    assert task(suite).traffic(24, cache=0) == 3 * (samples + 6 * parameters * steps)
    assert task(suite).traffic(24, cache=samples) == 0
    assert task(suite, optimizer="sgd").traffic(24, cache=0) == 3 * (
        samples + 2 * parameters * steps
    )


def test_samples_are_whole_batches_of_the_set(suite):
    for data, columns in (("mnist", 784), ("gaussian", 5), ("xor", 2), ("triples", 3)):
        arrays = suite.data.make(task(suite, data=data, sizes=(columns, 6, 3)))
        assert arrays.X.shape == (24, columns) and arrays.X.dtype == np.float32
        assert len(arrays.y) == 24 and arrays.order.shape == (3, 24)
        assert (np.sort(arrays.order) == np.arange(24)).all()


# --------------------------------------------------------------------------- libraries


@pytest.mark.parametrize("library", TRAINERS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sizes": (5, 6, 4, 2)},
        {"optimizer": "sgd", "learning_rate": 0.1, "batch": 1},
        {"data": "xor", "sizes": (2, 8, 1), "hidden": "tanh", "output": "sigmoid",
         "loss": "binary_cross_entropy", "optimizer": "sgd", "learning_rate": 0.1},
        {"data": "triples", "sizes": (3, 3, 2), "output": "sigmoid", "loss": "squared_error"},
    ],
    ids=["adam", "two classes", "sgd", "binary", "squared error"],
)  # fmt: skip
def test_library_trains_as_numpy_does(suite, library, changes):
    work = task(suite, **changes)
    if library == "sklearn" and work.loss == "squared_error":
        return
    weights, _ = result_of(suite, library, work)
    expected, arrays = result_of(suite, "numpy", work)
    for actual, reference, initial in zip(weights, expected, arrays.weights, strict=True):
        assert np.abs(reference - initial).max() > 1e-3
        np.testing.assert_allclose(actual, reference, rtol=0, atol=2e-5)


@pytest.mark.parametrize("library", ["cymlp", "numpy", "sklearn", "jax", "torch", "onnxruntime"])
@pytest.mark.parametrize("sizes, output", [((5, 6, 3), "softmax"), ((5, 6, 1), "sigmoid")])
def test_library_predicts_as_numpy_does(suite, library, sizes, output):
    work = task(suite, kind="predict", sizes=sizes, output=output, calls=2)
    outputs, arrays = result_of(suite, library, work)
    assert suite.data.check(work, outputs, arrays) < 1e-6


def test_bound_predictions_are_right(suite):
    work = task(suite, kind="predictor", calls=2)
    outputs, arrays = result_of(suite, "onnxruntime", work)
    assert suite.data.check(work, outputs, arrays) < 1e-6


def test_loss_that_is_compared_is_that_of_the_model(suite):
    work = task(suite)
    arrays = suite.data.make(work)
    net = suite.peers.load("cymlp").network(work, arrays)
    expected = net.evaluate(arrays.X, arrays.y)["loss"]
    assert suite.data.loss(work, arrays.weights, arrays) == pytest.approx(expected, rel=1e-5)


# --------------------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def rows(suite):
    """What a run over two small tasks finds, by real processes."""
    settings = suite.run.Settings(threads=(1,), repeats=2, libraries=("cymlp", "numpy"))
    with suite.run.pool() as workers:
        workers.workers["limits", 1] = Limits()
        return [
            row
            for work in (task(suite), task(suite, name="cold, 5-6-3", cold=True, epochs=2))
            for row in suite.run.time_task(work, settings, workers)
        ]


class Limits:
    """Stands in for the process that measures the machine: these tests need no compiler."""

    library, threads, waited = "limits", 1, 0.0

    def ask(self, do, **arguments):
        return {"fma": 1e12, "copy": 1e11} if do == "repeat" else {}

    def close(self):
        pass


def test_run_times_each_library_and_compares_losses(rows):
    for row in rows:
        assert set(row["libraries"]) == {"cymlp", "numpy"} and row["skipped"] == {}
        checks = [entry["check"] for entry in row["libraries"].values()]
        assert checks[0] == pytest.approx(checks[1], rel=1e-4)
        for entry in row["libraries"].values():
            assert entry["agrees"] and len(entry["seconds"]["all"]) == 2
            assert 0 < entry["seconds"]["min"] <= entry["seconds"]["median"]
    assert rows[0]["units"] == 3 and rows[1]["per"] == "process"


def test_worker_says_what_went_wrong(suite, tmp_path):
    worker = suite.run.Worker("numpy", 1)
    answer = worker.ask("prepare", task=task(suite).to_json(), folder=str(tmp_path))
    assert answer["error"].startswith("FileNotFoundError")
    worker.close()


def test_library_that_dies_is_left_out(suite):
    with suite.run.pool() as workers:
        worker = workers.get("numpy", 1)
        worker.process.kill()
        assert "ended" in suite.run.attempt(workers, worker, "repeat")["error"]
        assert workers.get("numpy", 1) is not worker


def test_losses_that_differ_are_seen(suite):
    assert suite.run.agrees(task(suite), 1.01, [1.0, 1.0, 1.01])
    assert not suite.run.agrees(task(suite), 1.1, [1.0, 1.0, 1.1])
    assert not suite.run.agrees(task(suite), float("nan"), [1.0, 1.0, float("nan")])
    assert not suite.run.agrees(task(suite, kind="predict"), 1e-3, [1e-3])


# --------------------------------------------------------------------------- the report


@pytest.fixture
def results(suite):
    """A made-up run: cymlp takes 1 s on one thread and 0.5 s on two, JAX 3 s and 2 s."""
    target = suite.workloads.Target
    targets = (
        target("ratio", 3.5, "jax"), target("ratio", 2, "best"), target("fma", 0.5),
        target("speedup", 1.8),
    )  # fmt: skip
    work = task(suite, targets=targets)
    found = []
    for threads, ours, theirs in ((1, 1.0, 3.0), (2, 0.5, 2.0)):
        row = suite.run.new_row(work, threads, 24) | {"units": 1, "flops": 4e9, "traffic": 1.0}
        row["limits"] = {"fma": [1e10 * threads], "copy": [1e10]}
        for library, seconds in (("cymlp", ours), ("jax", theirs)):
            suite.run.note(row, library, {"seconds": seconds})
            suite.run.note(row, library, {"check": 0.25})
        suite.run.finish(work, row)
        found.append(row)
    return {
        "date": "2030-01-01", "machine": {"cpu": "a CPU", "cores": 2, "python": "3.13"},
        "versions": {"cymlp": "1", "jax": "2"}, "repeats": 1, "quick": False, "images": "MNIST",
        "rows": found, "restless": {"jax, 2 threads": 0.5},
    }  # fmt: skip


def test_ratios_shares_and_targets(suite, results):
    one, two = results["rows"]
    assert suite.report.ratio(one, "jax") == 3 and suite.report.ratio(two, "best") == 4
    assert suite.report.ratio(one, "torch") is None
    assert suite.report.speedup(two, results["rows"]) == 2
    assert one["libraries"]["cymlp"]["share"] == pytest.approx(0.4)
    # JAX and the FMA share miss theirs on one thread; on two the share alone does.
    assert suite.report.met_and_missed(results) == (4, 7)


def test_table_marks_what_is_met(suite, results):
    text = suite.report.markdown(results)
    lines = [line for line in text.splitlines() if line.startswith("| 5-6-3, batch 4")]
    assert lines == [
        "| 5-6-3, batch 4 | 1 | 1 s / epoch | 4 | 40% FMA | 3× (3.5 ✗) "
        "| best peer 3× (2) ✓, 40% of FMA (50%) ✗ |",
        "| 5-6-3, batch 4 | 2 | 500 ms / epoch | 8 | 40% FMA | 4× (3.5 ✓) "
        "| best peer 4× (2) ✓, 40% of FMA (50%) ✗, 2 threads 2.00× (1.8) ✓ |",
    ]
    assert "jax, 2 threads: used 50% of a core" in text


def test_table_tells_of_losses_that_differ_and_of_what_is_left_out(suite, results):
    results["rows"][0]["libraries"]["jax"]["agrees"] = False
    results["rows"][1]["skipped"]["torch"] = "no reason"
    text = suite.report.markdown(results)
    assert "3× (3.5 ✗) (!)" in text and "JAX ends at 0.25, unlike the others" in text
    assert "PyTorch is left out: no reason" in text


def test_table_of_memory_and_weight(suite, results):
    results["memory"] = [
        {"data": "uint8 images", "network": "5-6-3", "target": 3e7, "skipped": {},
         "libraries": {"cymlp": {"over data": 2.5e7}}},
    ]  # fmt: skip
    spread = {"median": 0.15, "min": 0.1, "max": 0.2, "all": []}
    results["weight"] = {
        "import": {"cymlp": spread}, "import target": 0.1, "wheel": 7e5, "wheel target": 1.5e6
    }  # fmt: skip
    text = suite.report.markdown(results)
    assert "| uint8 images | 25.0 MB | 30.0 MB ✓ |" in text
    assert "beyond NumPy's | 150 ms | 100 ms ✗ |" in text
    assert "| wheel of cymlp | 0.70 MB | 1.5 MB ✓ |" in text


def test_report_is_written_from_json(suite, results, tmp_path):
    pytest.importorskip("matplotlib")
    suite.report.write(json.loads(json.dumps(results)), tmp_path / "results")
    assert (tmp_path / "results.md").read_text(encoding="utf-8").startswith("# Results")
    assert "<svg" in (tmp_path / "results.svg").read_text()


def test_machine_is_described(suite):
    cores = suite.machine.cores(1)
    assert len(cores) <= 1 and suite.machine.most_threads() >= 1
    assert suite.machine.description()["cores"] == suite.machine.most_threads()
