"""Cgroups of both versions, as files in a folder; the real ones are read by the tests with real engines."""

from __future__ import annotations

import os
import subprocess
import threading
import time

import pytest
from waiting import wait_for

from packtivity.runtimes import cgroup, container_stats
from packtivity.runtimes.cgroup import Usage
from packtivity.runtimes.container_stats import ContainerStats

ID = "0123456789abcdef" * 4


def files(root, **contents):
    for name, content in contents.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_name(path.name + ".tmp")  # a reader finds the old content or the new one, as a kernel's
        whole.write_text(content)
        whole.replace(path)


def version_2(root, place, **more):
    folder = root / place.format(id=ID)
    files(root, cgroup_dot_controllers="cpu io memory\n")
    contents = {
        "cpu_dot_stat": "usage_usec 1500000\nuser_usec 1000000\n",
        "memory_dot_peak": "4096000\n",
        "memory_dot_events": "low 0\noom 1\noom_kill 2\n",
        "io_dot_stat": "8:0 rbytes=4096 wbytes=512 rios=1 wios=1\n9:0 rbytes=4 wbytes=8\n",
        "cgroup_dot_procs": "",
        **more,
    }
    files(folder, **{name: content for name, content in contents.items() if content is not None})
    return folder


def version_1(root, place):
    path = place.format(id=ID)
    for controller, name, content in (
        ("cpuacct", "cpuacct_dot_usage", "1500000000\n"),
        ("memory", "memory_dot_max_usage_in_bytes", "4096000\n"),
        ("memory", "memory_dot_oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        ("memory", "cgroup_dot_procs", ""),
        ("blkio", "blkio_dot_throttle_dot_io_service_bytes", "8:0 Read 4096\n8:0 Write 512\n8:0 Total 9\n9:0 Read 4\nTotal 9\n"),
    ):  # fmt: skip
        files(root / controller / path, **{name: content})


@pytest.mark.parametrize(
    "place",
    [
        "docker/{id}",
        "system.slice/docker-{id}.scope",
        "libpod_parent/libpod-{id}",
        "machine.slice/libpod-{id}.scope",
        f"user.slice/user-{os.getuid()}.slice/user@{os.getuid()}.service/user.slice/libpod-{{id}}.scope",
    ],
)
def test_a_cgroup_is_found_where_engines_make_them_and_read(tmp_path, place):
    version_2(tmp_path, place)
    found = cgroup.find(ID, str(tmp_path))
    assert found.usage() == Usage("cgroup", 1.5, 4096000, 4100, 520, 2)


def test_version_1_has_a_tree_for_each_controller(tmp_path):
    version_1(tmp_path, "docker/{id}")
    found = cgroup.find(ID, str(tmp_path))
    assert found.usage() == Usage("cgroup", 1.5, 4096000, 4100, 512, 2)


def test_a_cgroup_in_an_unusual_place_is_searched_for(tmp_path):
    version_2(tmp_path, "kubepods/burstable/site/crio-{id}.scope")
    assert cgroup.find(ID, str(tmp_path)) is None
    assert cgroup.search(ID, str(tmp_path)).usage().cpu == 1.5
    assert cgroup.search("f" * 64, str(tmp_path)) is None


def test_what_a_kernel_does_not_count_is_nobody_s_guess(tmp_path):
    folder = version_2(
        tmp_path,
        "docker/{id}",
        memory_dot_peak=None,
        io_dot_stat=None,
        memory_dot_events=None,
        memory_dot_current="700\n",
    )
    found = cgroup.find(ID, str(tmp_path))
    assert found.usage() == Usage("cgroup", 1.5, 700, None, None, None)
    files(folder, memory_dot_current="300\n")
    assert found.usage().memory == 700  # what was seen to be the most, before Linux 5.19
    (folder / "cpu.stat").unlink()
    assert found.usage() is None


def metered(tmp_path, monkeypatch, act):
    """Run a meter over a cgroup that is made up and removed as an engine does."""
    root, folder = tmp_path / "root", tmp_path / "life"
    root.mkdir()
    folder.mkdir()
    monkeypatch.setattr(cgroup.find, "__defaults__", (str(root),))
    monkeypatch.setattr(cgroup.search, "__defaults__", (str(root),))
    with ContainerStats(str(folder)) as found:
        act(root, folder)
    return found.usage


def watched_looks(monkeypatch):
    """Return a list that grows with each look at a cgroup."""
    looks, look = [], cgroup.Group.usage
    monkeypatch.setattr(cgroup.Group, "usage", lambda group: (found := look(group), looks.append(found))[0])
    return looks


def test_the_last_look_is_at_the_end_of_the_first_process(tmp_path, monkeypatch):
    def act(root, folder):
        starter = subprocess.Popen(["sleep", "0.5"])
        first = subprocess.Popen(["sleep", "1"])
        group = version_2(root, "docker/{id}", cgroup_dot_procs=f"{starter.pid}\n")
        (folder / "cid").write_text(ID)
        time.sleep(0.3)  # the meter has found the starter
        files(group, cgroup_dot_procs=f"{first.pid}\n", cpu_dot_stat="usage_usec 2000000\n")
        starter.wait()
        threading.Timer(0.35, files, [group], {"cpu_dot_stat": "usage_usec 7000000\n"}).start()
        first.wait()
        time.sleep(0.02)  # an engine takes longer
        files(group, cpu_dot_stat="usage_usec 9000000\n", cgroup_dot_procs="")
        time.sleep(0.3)

    assert metered(tmp_path, monkeypatch, act).cpu in (7.0, 9.0)


def test_a_last_look_that_came_too_late_does_not_say_that_memory_was_enough(tmp_path, monkeypatch):
    def act(root, folder):
        first = subprocess.Popen(["sleep", "0.3"])
        group = version_2(root, "docker/{id}", cgroup_dot_procs=f"{first.pid}\n", memory_dot_events="oom_kill 0\n")
        (folder / "cid").write_text(ID)
        time.sleep(0.2)
        (group / "cpu.stat").unlink()
        first.wait()
        time.sleep(0.1)

    found = metered(tmp_path, monkeypatch, act)
    assert (found.cpu, found.killed) == (1.5, None)


@pytest.mark.parametrize(
    "lost", [("memory.peak",), ("io.stat",), ("memory.peak", "io.stat", "memory.events"), ("cpu.stat",)]
)
def test_a_last_look_at_what_is_half_removed_takes_away_no_figure(tmp_path, monkeypatch, lost):
    def act(root, folder):
        first = subprocess.Popen(["sleep", "60"])
        group = version_2(root, "docker/{id}", cgroup_dot_procs=f"{first.pid}\n")
        looks = watched_looks(monkeypatch)
        (folder / "cid").write_text(ID)
        assert wait_for(lambda: looks)
        for name in lost:
            (group / name).unlink()
        files(group, cpu_dot_stat="usage_usec 2500000\n") if "cpu.stat" not in lost else None
        seen = len(looks)
        first.kill()
        first.wait()
        assert wait_for(lambda: len(looks) > seen)

    found = metered(tmp_path, monkeypatch, act)
    assert (found.source, found.memory, found.read, found.written, found.killed) == ("cgroup", 4096000, 4100, 520, 2)
    assert found.cpu == (1.5 if "cpu.stat" in lost else 2.5)


def test_no_figure_falls_and_none_that_nobody_counted_is_made_up(tmp_path, monkeypatch):
    looks = [Usage("cgroup", 1.0, 700, None, None, 0), Usage("cgroup", 2.0, 300, 5, None, None), None]
    usage = None
    for look in looks:
        usage = container_stats._joined(usage, look)
    assert usage == Usage("cgroup", 2.0, 700, 5, None, None)
    assert container_stats._joined(None, None) is None


def test_a_container_that_is_nowhere_is_looked_for_less_and_less(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(container_stats, "_EAGER", 0.1)
    monkeypatch.setattr(container_stats, "find_conmon", asked.append)

    def act(root, folder):
        (folder / "cid").write_text(ID)
        time.sleep(1)

    assert metered(tmp_path, monkeypatch, act) is None
    assert len(asked) < 12


def test_a_container_that_is_nowhere_has_no_figures(tmp_path, monkeypatch):
    assert metered(tmp_path, monkeypatch, lambda root, folder: time.sleep(0.05)) is None

    def act(root, folder):
        (folder / "cid").write_text(ID)
        (folder / "monitor").write_text("0\n")
        time.sleep(0.35)

    (tmp_path / "other").mkdir()
    assert metered(tmp_path / "other", monkeypatch, act) is None


def test_a_file_that_names_no_process_is_none(tmp_path):
    (tmp_path / "monitor").write_text("x\n")
    assert container_stats.find_conmon(str(tmp_path / "monitor")) is None
    assert container_stats.find_conmon(str(tmp_path / "none")) is None
    (tmp_path / "monitor").write_text(f"{os.getpid()}\n")
    assert container_stats.find_conmon(str(tmp_path / "monitor")) is None  # no child of ours is in a container
