#!/usr/bin/env bash
# Run the suite against a wheel or an sdist, in a new environment and away from the source tree.
# Usage: tools/test_wheel.sh PYTHON WHEEL
set -euo pipefail

if [[ $# -ne 2 ]]; then
    echo "usage: tools/test_wheel.sh PYTHON WHEEL (one wheel; got $(($# - 1)))" >&2
    exit 2
fi
python=$1
wheel=$(realpath "$2")
tree=$(dirname "$(dirname "$(realpath "$0")")")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH PYTHONHOME

"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "${wheel}[test]"
# Kept apart from the environment: pytest looks for its settings upwards of the tests.
mkdir "$work/suite"
cp -R "$tree/tests" "$tree/pyproject.toml" "$work/suite"
cd "$work/suite"
"$work/venv/bin/python" -c "import cymlp; print(cymlp.__file__); cymlp.show_config()"
"$work/venv/bin/pytest" -p no:cacheprovider --numprocesses=auto tests --pyargs cymlp
