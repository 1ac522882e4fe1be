"""How many cores a process may use, from copies of the files in which Linux tells."""

import math
import os
import sys

import pytest
from conftest import run_python

from cymlp import _cores


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


@pytest.mark.parametrize(
    ("siblings", "cpus", "expected"),
    [
        ({0: "0", 1: "1"}, {0, 1}, 2),
        ({0: "0-1", 1: "0-1"}, {0, 1}, 1),
        ({0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}, {0, 1, 4, 5}, 2),
        ({0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}, {0, 4}, 1),
        ({0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}, {0, 5}, 2),
        ({0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}, {4}, 1),
        ({0: "0-1,8-9", 1: "0-1,8-9", 8: "0-1,8-9", 9: "0-1,8-9"}, {0, 1, 8, 9}, 1),
        ({}, {0, 1, 2}, 3),
        ({0: "", 1: "who knows"}, {0, 1}, 2),
    ],
    ids=str,
)
def test_hyperthreads_are_one_core(tmp_path, siblings, cpus, expected):
    for cpu, text in siblings.items():
        write(tmp_path / f"cpu{cpu}/topology/thread_siblings_list", text)
    assert _cores.physical_cores(cpus, str(tmp_path)) == expected


V1 = {"cpu,cpuacct/a/cpu.cfs_period_us": "100000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/", {}, math.inf),
        ("0::/", {"cpu.max": "max 100000"}, math.inf),
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b", {"a/b/cpu.max": "300000 100000", "a/cpu.max": "max 100000"}, 3),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, 0.5),
        ("0::/a/b", {"a/b/cpu.max": "300000 100000", "a/cpu.max": "200000 100000"}, 2),
        ("0::/a:b", {"a:b/cpu.max": "300000 100000"}, 3),
        ("0::/outside", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": ""}, math.inf),
        ("0::/", {"cpu.max": "200000 0"}, math.inf),
        ("0::/", {"cpu.max": "\xff"}, math.inf),
        ("3:cpu,cpuacct:/a", {**V1, "cpu,cpuacct/a/cpu.cfs_quota_us": "250000"}, 2.5),
        ("3:cpu,cpuacct:/a", {**V1, "cpu,cpuacct/a/cpu.cfs_quota_us": "-1"}, math.inf),
        ("3:cpu,cpuacct:/a", {**V1, "cpu,cpuacct/cpu.cfs_quota_us": "150000"}, 1.5),
        ("3:cpu:/", {"cpu/cpu.cfs_quota_us": "80000", "cpu/cpu.cfs_period_us": "40000"}, 2),
        ("2:cpuset:/\n1:name=systemd:/\n0::/", {"cpuset/cpu.cfs_quota_us": "1"}, math.inf),
        ("", {"cpu.max": "150000 100000"}, math.inf),
        ("nonsense", {}, math.inf),
    ],
    ids=str,
)
def test_quota(tmp_path, membership, files, expected):
    write(tmp_path / "self", membership)
    for name, text in files.items():
        write(tmp_path / "cgroup" / name, text)
    assert _cores.cpu_quota(str(tmp_path / "self"), str(tmp_path / "cgroup")) == expected


def test_no_files_no_limit(tmp_path):
    assert _cores.cpu_quota(str(tmp_path / "self"), str(tmp_path)) == math.inf


@pytest.mark.parametrize(
    ("quota", "expected"), [(math.inf, 4), (0.3, 1), (1, 1), (1.2, 2), (3.99, 4), (64, 4)]
)
def test_a_part_of_a_core_counts_as_one(monkeypatch, quota, expected):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(_cores, "physical_cores", lambda cpus: len(cpus) // 2)
    monkeypatch.setattr(_cores, "cpu_quota", lambda: quota)
    assert _cores.usable_cores() == expected


def test_system_that_does_not_tell(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert _cores.usable_cores() is None


def test_darwin(monkeypatch):
    """Elsewhere, its way to ask fails as if the system did not know."""
    expected = _cores.usable_cores() if sys.platform == "darwin" else None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert _cores.usable_cores() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot give cores away")
def test_affinity_of_this_machine():
    allowed = os.sched_getaffinity(0)
    assert 1 <= _cores.usable_cores() <= len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert _cores.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_nothing_is_read_before_there_is_work_to_share():
    code = """
import sys, cymlp
from cymlp.layers import Dense
net = cymlp.Sequential([Dense(2)], n_inputs=3)
net.predict([[1, 2, 3]])
print("cymlp._cores" in sys.modules)
"""
    assert run_python(code).stdout == "False\n"
