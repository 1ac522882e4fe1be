"""`import cymlp` needs NumPy alone, and says what to install for the rest."""

import pytest
from conftest import run_python

#: Makes an import of any of these fail as if the package were not installed.
BLOCK = """
import sys

class Blocker:
    names = {"sklearn", "matplotlib", "tqdm", "scipy", "pandas", "polars", "torch"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def output_of(code, cwd, **variables):
    process = run_python(code, cwd=cwd, **variables)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_blocker_blocks(tmp_path):
    process = run_python(BLOCK + "import sklearn", cwd=tmp_path)
    assert "No module named 'sklearn'" in process.stderr


def test_everything_but_estimators_works_with_numpy_alone(tmp_path):
    code = (
        BLOCK
        + """
import numpy as np
import cymlp
from cymlp import activations, datasets, initializers, layers, losses, metrics, optimizers
from cymlp import constraints, regularizers

X = np.random.default_rng(0).standard_normal((20, 3))
net = cymlp.Sequential([layers.Dense(4, activation="relu"), layers.Dense(2)], n_inputs=3)
net.compile()
net.fit(X, X[:, :2], verbose="auto")
net.fit(X, X[:, :2], verbose=2)
assert net.predict(X).shape == (20, 2)
net.summary()
cymlp.show_config()
cymlp.set_num_threads(cymlp.get_num_threads())
assert cymlp.__version__
print("works")
"""
    )
    assert "works" in output_of(code, tmp_path)


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
@pytest.mark.parametrize("how", ["cymlp.{}", "from cymlp import {}"])
def test_estimator_without_scikit_learn(tmp_path, name, how):
    code = BLOCK + f"import cymlp\n{how.format(name)}\n"
    process = run_python(code, cwd=tmp_path)
    assert process.returncode != 0
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError:"), process.stderr
    assert 'pip install "cymlp[sklearn]"' in last


def test_progress_bar_without_tqdm(tmp_path):
    """Asking for the bar says what to install, or does without; never a half-trained surprise."""
    code = (
        BLOCK
        + """
import numpy as np
from cymlp import Sequential
from cymlp.layers import Dense

X = np.ones((4, 2))
net = Sequential([Dense(1)], n_inputs=2, random_state=0)
net.compile()
before = net.get_weights()
try:
    net.fit(X, X[:, :1], verbose=1)
except ImportError as error:
    assert "pip install" in str(error), error
    for a, b in zip(before, net.get_weights()):
        assert (a == b).all()
    print("clear")
"""
    )
    assert "clear" in output_of(code, tmp_path)


def test_plot_without_matplotlib(tmp_path):
    code = (
        BLOCK
        + """
import numpy as np
from cymlp import Sequential
from cymlp.layers import Dense

X = np.ones((4, 2))
net = Sequential([Dense(1)], n_inputs=2)
net.compile()
history = net.fit(X, X[:, :1], verbose=0)
try:
    history.plot()
except ImportError as error:
    print(error)
"""
    )
    assert 'pip install "cymlp[plot]"' in output_of(code, tmp_path)


def test_import_loads_nothing_heavy(tmp_path):
    """Neither what is optional nor what is slow, even where it is installed."""
    code = """
import sys
import numpy
before = set(sys.modules)
import cymlp
heavy = {"sklearn", "scipy", "matplotlib", "tqdm", "pandas", "torch", "PIL", "multiprocessing",
         "asyncio", "unittest", "email", "http", "xml", "concurrent"}
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before} & heavy))
"""
    assert output_of(code, tmp_path).strip() == "[]"


def test_import_leaves_what_few_need_for_later(tmp_path):
    code = """
import sys
import cymlp
print(sorted({"cymlp.diagnosis", "cymlp.estimators", "cymlp.gradient_check", "cymlp.trace",
              "cymlp._explain", "cymlp.plots"} & set(sys.modules)))
print(all(callable(getattr(cymlp, name)) for name in ("diagnose", "explain", "check_gradients")))
"""
    assert output_of(code, tmp_path).split() == ["[]", "True"]


def test_import_prints_and_warns_nothing(tmp_path):
    process = run_python(
        "import warnings; warnings.simplefilter('error'); import cymlp", cwd=tmp_path
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def test_public_names():
    import cymlp

    for name in ("Sequential", "History", "show_config", "set_num_threads", "get_num_threads"):
        assert name in cymlp.__all__
        assert name in dir(cymlp)
        assert hasattr(cymlp, name)
    assert {"MLPClassifier", "MLPRegressor"} <= set(cymlp.__all__) & set(dir(cymlp))
    with pytest.raises(AttributeError, match="MLPTransformer"):
        cymlp.MLPTransformer  # noqa: B018
