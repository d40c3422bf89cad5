"""One task for many parameter sets: sets from files and ranges, every backend, going on where it stopped, the table."""

from __future__ import annotations

import csv
import json
import os
import pty
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import until

OUT = ("-p", 'out="{workdir}/o"')
SPEC = """\
process:
  process_type: string-interpolated-cmd
  cmd: 'echo "{x} {name}" > "{out}"; echo >> ran; test {x} != 3'
environment:
  environment_type: localproc-env
publisher:
  publisher_type: frompar-pub
  outputmap: {o: out}
"""


@pytest.fixture(autouse=True)
def _apart(monkeypatch, tmp_path):
    monkeypatch.setenv("PACKTIVITY_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def place(commands):
    commands.write("spec.yml", SPEC)
    return commands.directory


@pytest.fixture
def sweep(commands, place, tmp_path):
    """Runs ``packtivity map`` on the spec."""

    def run(*arguments, spec="spec.yml", path=""):
        state = {"PACKTIVITY_STATE_DIR": str(tmp_path / "state"), "PYTHONPATH": str(path)}
        return commands("packtivity", "map", spec, *arguments, env=state)

    return run


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def ran(folder):
    """How often each task has run."""
    return [len(p.read_text().splitlines()) for p in sorted(folder.glob("*/ran"))]


def test_a_range_with_its_ends_runs_each_value_in_a_directory_of_its_own(sweep, place):
    done = sweep("-p", "x=1..2", "-p", "name=a", *OUT, "-w", "scan", "-b", "multiproc:2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"2 of 2 tasks succeeded; table: {place}/scan/results.csv\n"
    assert [(place / "scan" / name / "o").read_text() for name in ("0000", "0001")] == ["1 a\n", "2 a\n"]


def test_ranges_are_taken_each_with_each_and_may_have_steps_and_go_down(sweep, place):
    done = sweep("-p", "x=0..1..0.5", "-p", "name=7..6", *OUT, "-w", "scan")
    assert done.returncode == 0
    rows = [(row["x"], row["name"]) for row in table(place / "scan" / "results.csv")]
    assert rows == [("0.0", "7"), ("0.0", "6"), ("0.5", "7"), ("0.5", "6"), ("1.0", "7"), ("1.0", "6")]


def test_json_lines_are_sets_and_so_are_rows_of_csv_read_as_yaml(sweep, place):
    (place / "a.jsonl").write_text('{"x": 1, "name": "ü b"}\n\n{"x": 2, "name": "c"}\n', encoding="utf-8")
    (place / "a.csv").write_text('\ufeffx,name\r\n1,ü b\r\n2,"c"\r\n', encoding="utf-8")
    found = []
    for file in ("a.jsonl", "a.csv"):
        done = sweep("--over", file, *OUT, "-w", file + ".d", "--table", "t.json")
        assert (done.returncode, done.stderr) == (0, "")
        found.append([entry["parameters"] for entry in json.loads((place / "t.json").read_text())])
    assert found == [[{"x": 1, "name": "ü b"}, {"x": 2, "name": "c"}]] * 2
    assert (place / "a.csv.d" / "0000" / "o").read_text(encoding="utf-8") == "1 ü b\n"


def test_a_file_and_a_range_are_taken_each_with_each(sweep, place):
    (place / "a.jsonl").write_text('{"name": "a"}\n{"name": "b"}\n')
    assert sweep("--over", "a.jsonl", "-p", "x=1..2", *OUT, "-w", "scan").returncode == 0
    rows = [(row["name"], row["x"]) for row in table(place / "scan" / "results.csv")]
    assert rows == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]


def test_failures_are_listed_and_the_tables_say_which_and_why(sweep, place):
    done = sweep("-p", "x=1..4", "-p", "name=a", *OUT, "-w", "scan", "-b", "multiproc:2")
    assert done.returncode == 6
    assert done.stdout.startswith("3 of 4 tasks succeeded; table: ")
    assert f"1 task failed:\n  {place}/scan/0002: the task failed with exit code 1" in done.stderr
    rows = table(place / "scan" / "results.csv")
    assert [row["number"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["status"] for row in rows] == ["succeeded", "succeeded", "failed", "succeeded"]
    assert [row["o"] for row in rows] == [f"{place}/scan/{row['number']:>04}/o" if row["o"] else "" for row in rows]
    assert [bool(row["error"]) for row in rows] == [False, False, True, False]
    assert all(float(row["seconds"]) > 0 and row["attempts"] == "1" for row in rows)
    again = sweep("-p", "x=1..4", "-p", "name=a", *OUT, "-w", "scan", "--table", "t.json")
    entries = json.loads((place / "t.json").read_text())
    assert again.returncode == 6
    assert [entry["status"] for entry in entries] == [row["status"] for row in rows]
    assert entries[0]["result"] == {"o": f"{place}/scan/0000/o"}
    assert entries[2]["result"] is None
    assert "exit code 1" in entries[2]["error"]


def test_of_many_failures_the_first_ten_are_listed(sweep, place):
    done = sweep("-p", "x=3..3", "-p", "name=1..13", *OUT, "-w", "scan", "-b", "multiproc:2")
    assert done.returncode == 6
    lines = done.stderr.splitlines()
    assert lines[0] == "warning: 13 tasks failed:"
    assert lines[1].startswith(f"  {place}/scan/0000: ")
    assert (len(lines), lines[-1]) == (12, "  and 3 more")


EVERYWHERE = ["defaultsync", "foregroundasync", "multiproc:2", "local:2", "externalasync:default"]


@pytest.mark.parametrize("backend", EVERYWHERE)
def test_every_backend_that_is_always_there_gives_the_same_table(backend, sweep, place):
    done = sweep("-p", "x=1..5", "-p", "name=a", *OUT, "-w", "scan", "-b", backend, "--table", "t.json")
    assert done.returncode == 6, done.stderr
    entries = json.loads((place / "t.json").read_text())
    assert [entry["status"] for entry in entries] == ["succeeded", "succeeded", "failed", "succeeded", "succeeded"]
    assert [entry["result"] and entry["result"]["o"] for entry in entries] == [
        None if number == 2 else f"{place}/scan/{number:04}/o" for number in range(5)
    ]
    assert ran(place / "scan") == [1] * 5
    assert sweep("-p", "x=1..5", "-p", "name=a", *OUT, "-w", "scan", "-b", backend).returncode == 6
    assert ran(place / "scan") == [1, 1, 2, 1, 1]


def test_a_task_whose_result_cannot_be_published_has_failed_on_a_backend_without_records(sweep, place):
    publisher = "publisher: {publisher_type: fromyaml-pub, yamlfile: nowhere.yml}\n"
    (place / "other.yml").write_text(SPEC.partition("publisher:")[0] + publisher)
    arguments = ("-p", "x=1..2", "-p", "name=a", *OUT, "-w", "scan", "-b", "externalasync:default")
    done = sweep(*arguments, spec="other.yml")
    assert (done.returncode, "0 of 2 tasks succeeded" in done.stdout) == (6, True)
    assert ["nowhere.yml" in row["error"] for row in table(place / "scan" / "results.csv")] == [True, True]


def test_the_same_command_runs_only_what_has_not_succeeded(sweep, place):
    arguments = ("-p", "x=1..5", "-p", "name=a", *OUT, "-w", "scan")
    assert sweep(*arguments).returncode == 6
    assert sweep(*arguments).returncode == 6
    assert ran(place / "scan") == [1, 1, 2, 1, 1]


def test_other_parameters_or_another_spec_are_run_anew(sweep, place):
    arguments = ("-p", "x=1..2", *OUT, "-w", "scan")
    assert sweep(*arguments, "-p", "name=a").returncode == 0
    assert sweep(*arguments, "-p", "name=b").returncode == 0
    assert ran(place / "scan") == [2, 2]
    (place / "spec.yml").write_text(SPEC.replace("echo >> ran", "echo >> ran; true"))
    assert sweep(*arguments, "-p", "name=b").returncode == 0
    assert ran(place / "scan") == [3, 3]


SLOW = SPEC.replace("echo >> ran; test {x} != 3", "sleep 0.03; echo >> ran")


@pytest.mark.parametrize(
    ("backend", "rounds"),
    [
        ("multiproc:2", 3),
        ("local:2", 2),
        pytest.param("multiproc:2", 40, marks=pytest.mark.soak),
        pytest.param("local:2", 25, marks=pytest.mark.soak),
    ],
)
def test_it_goes_on_where_it_stopped_after_being_killed_at_any_moment(backend, rounds, commands, sweep, place):
    (place / "spec.yml").write_text(SLOW)
    chance = random.Random(len(backend) + rounds)
    for turn in range(rounds):
        state = {"PACKTIVITY_STATE_DIR": os.environ["PACKTIVITY_STATE_DIR"]}
        count, folder = 60, place / f"scan{turn}"
        arguments = ("-p", f"x=1..{count}", "-p", "name=a", *OUT, "-w", folder.name, "-b", backend)
        kills = 0
        while kills < 3:
            running = commands.start("packtivity", "map", "spec.yml", *arguments, env=state)
            try:
                running.wait(chance.uniform(0.25, 1.1))
                break
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
                kills += 1
        done = sweep(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        rows = table(folder / "results.csv")
        assert [(row["number"], row["status"], row["x"]) for row in rows] == [
            (str(number), "succeeded", str(number + 1)) for number in range(count)
        ]
        for number in range(count):
            assert (folder / f"{number:04}" / "o").read_text() == f"{number + 1} a\n"
        # a task that had succeeded when the command was killed is not run again: each kill hits what was running
        assert sum(ran(folder)) <= count + kills * 12, ran(folder)
        # what a kill cuts off is a file that has not got its name yet
        assert len(list(folder.rglob("*.tmp"))) <= kills


def test_a_second_command_at_the_same_time_waits_for_the_tasks_of_the_first(commands, sweep, place):
    (place / "spec.yml").write_text(SLOW.replace("sleep 0.03", "sleep 0.2"))
    arguments = ("-p", "x=1..8", "-p", "name=a", *OUT, "-w", "scan", "-b", "multiproc:2")
    first = commands.start("packtivity", "map", "spec.yml", *arguments)
    done = sweep(*arguments)
    assert (first.wait(30), done.returncode) == (0, 0)
    assert all(row["status"] == "succeeded" for row in table(place / "scan" / "results.csv"))


@pytest.mark.parametrize(
    "backends", [("local:2", "multiproc:2"), ("local:2", "defaultsync"), ("multiproc:2", "local:2")]
)
def test_it_goes_on_with_another_backend_without_running_anything_again(backends, commands, sweep, place):
    (place / "spec.yml").write_text(SLOW.replace("sleep 0.03", "sleep 0.1"))
    arguments = ("-p", "x=1..12", "-p", "name=a", *OUT, "-w", "scan")
    state = {"PACKTIVITY_STATE_DIR": os.environ["PACKTIVITY_STATE_DIR"]}
    first = commands.start("packtivity", "map", "spec.yml", *arguments, "-b", backends[0], env=state)
    proxies, records = ([place / f"scan/{n:04}/_packtivity/{name}.json" for n in range(12)] for name in NAMES)
    until(lambda: all(path.exists() for path in proxies) and records[1].exists())
    first.send_signal(signal.SIGINT if backends[0].startswith("multiproc") else signal.SIGKILL)
    first.wait()
    done = sweep(*arguments, "-b", backends[1])
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["status"] for row in table(place / "scan" / "results.csv")] == ["succeeded"] * 12
    again = sum(ran(place / "scan")) - 12
    assert again <= (
        2 if backends[0] == "multiproc:2" else 0
    )  # a pool's tasks end with it, perhaps just before their records


def test_a_set_whose_worker_was_killed_before_its_record_had_both_names_is_not_run_again(sweep, place):
    arguments = ("-p", "x=1..2", "-p", "name=a", *OUT, "-w", "scan", "-b", "multiproc:2")
    assert sweep(*arguments).returncode == 0
    for record in place.glob("scan/*/_packtivity/packtivity.outcome.json"):
        record.unlink()
    assert sweep(*arguments).returncode == 0
    assert ran(place / "scan") == [1, 1]
    assert [row["status"] for row in table(place / "scan" / "results.csv")] == ["succeeded"] * 2


NAMES = ("map.proxy", "packtivity.outcome")


def test_a_task_of_another_spec_that_still_runs_is_not_taken_for_this_one(commands, sweep, place):
    arguments = ("-p", "x=1..2", "-p", "name=a", *OUT, "-w", "scan", "-b", "local:2")
    (place / "spec.yml").write_text(SLOW.replace("sleep 0.03", "while [ ! -e ../../go ]; do sleep 0.05; done"))
    state = {"PACKTIVITY_STATE_DIR": os.environ["PACKTIVITY_STATE_DIR"]}
    first = commands.start("packtivity", "map", "spec.yml", *arguments, env=state)
    proxies = [place / "scan" / folder / "_packtivity" / "map.proxy.json" for folder in ("0000", "0001")]
    until(lambda: all(path.exists() for path in proxies))
    first.kill()
    first.wait()
    (place / "spec.yml").write_text(SLOW)
    done = sweep(*arguments)
    assert (done.returncode, done.stdout) == (5, "")
    assert f"{place}/scan/0000: a task of another spec, or with other parameters, still runs in it" in done.stderr
    (place / "go").touch()
    assert commands("packtivity-checkproxy", "--wait", *map(str, proxies), env=state).returncode == 0
    assert sweep(*arguments).returncode == 0
    assert ran(place / "scan") == [2, 2]


# A signal between a shell's fork and the start of its command is lost on the command: who writes the file is the command.
HANGS = "(echo >> ran; exec sleep 60)"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_running_tasks_and_the_command_at_once(number, commands, place):
    (place / "spec.yml").write_text(SPEC.replace("echo >> ran", HANGS))
    arguments = ("-p", "x=1..50", "-p", "name=a", *OUT, "-w", "scan", "-b", "multiproc:2")
    running = commands.start("packtivity", "map", "spec.yml", *arguments)
    until(lambda: len(list(place.glob("scan/*/ran"))) == 2)
    running.send_signal(number)
    assert running.wait(20) == 128 + number
    assert len(list(place.glob("scan/*/ran"))) <= 2
    records = [json.loads(p.read_text()) for p in place.glob("scan/*/_packtivity/packtivity.outcome.json")]
    assert {found["status"] for found in records} == {"cancelled"}


def test_a_signal_ends_a_single_task_of_a_pool_at_once(commands, place):
    (place / "spec.yml").write_text(SPEC.replace("echo >> ran", HANGS))
    running = commands.start("packtivity-run", "spec.yml", "-p", "x=1", "-p", "name=a", *OUT, "-b", "multiproc:1")
    until((place / "ran").exists)
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == 130


BAD = {
    "not JSON": ("a.jsonl", '{"x": 1, "name": "a"}\n{"x": 2,\n', "a.jsonl:2: not JSON"),
    "a line that is no mapping": ("a.jsonl", '{"x": 1, "name": "a"}\n[1]\n', "a.jsonl:2: not a mapping"),
    "a line that is nested too deep": ("a.jsonl", "[" * 200_000, "a.jsonl:1: nested too deep"),
    "a name twice in a line": ("a.jsonl", '{"x": 1, "x": 2, "name": "a"}\n', "a.jsonl:1: the name 'x' is there twice"),
    "a column less": ("a.csv", "x,name\n1,a\n2\n", "a.csv:3: 1 values for 2 columns: x, name"),
    "a value more": ("a.csv", "x,name\n1,a,b\n", "a.csv:2: 3 values for 2 columns: x, name"),
    "a column twice": ("a.csv", "x,x,name\n1,2,a\n", "a.csv:1: there are two columns 'x'"),
    "a column without a name": ("a.csv", "x,,name\n1,2,a\n", "a.csv:1: a column has no name"),
    "a value that is no YAML": ("a.csv", "x,name\n1,a\n2,[b\n", "a.csv:3:"),
    "a quote that is never closed": ("a.csv", 'x,name\n1,"a\n', "a.csv:2: not CSV"),
    "a parameter that one set lacks": (
        "a.jsonl",
        '{"x": 1, "name": "a"}\n{"x": 2}\n',
        "a.jsonl:2: process.cmd: placeholder {name}: no parameter is called 'name'",
    ),
    "half a character": (
        "a.jsonl",
        '{"x": 1, "name": "\\ud800"}\n',
        "a.jsonl:1: half a surrogate pair is no character",
    ),
    "nesting without end": (
        "a.jsonl",
        '{"x": ' + "[" * 9999 + "]" * 9999 + "}\n",
        "a.jsonl:1: nested too deep",
    ),
    "nesting that is deep": (
        "a.jsonl",
        '{"x": ' + "[" * 200 + "]" * 200 + "}\n",
        "a.jsonl:1: nested too deep",
    ),
    "no set at all": ("a.jsonl", "\n", "a.jsonl has no parameter set in it"),
    "no row at all": ("a.csv", "x,name\n", "a.csv has no parameter set in it"),
    "not UTF-8": ("a.jsonl", b'{"x": "\xff"}\n', "parameter sets a.jsonl: not UTF-8"),
    "a parameter given twice": ("a.csv", "x,name,out\n1,a,b\n", "the parameter 'out' is given with -p and in a.csv"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_with_a_mistake_is_refused_before_anything_runs(name, sweep, place):
    file, content, said = BAD[name]
    (place / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    done = sweep("--over", file, *OUT, "-w", "scan")
    assert (done.returncode, done.stdout) == (4, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "scan").exists()


def test_a_missing_file_of_sets_is_named(sweep):
    done = sweep("--over", "nowhere.jsonl", *OUT)
    assert (done.returncode, "nowhere.jsonl: No such file" in done.stderr) == (3, True)


@pytest.mark.parametrize("text", ["x=1..5..0", "x=1..5..-1", "x=5..1..1"])
def test_a_range_that_never_ends_is_refused(text, sweep):
    done = sweep("-p", text, *OUT)
    assert (done.returncode, "never gets to its end" in done.stderr) == (4, True)


@pytest.mark.parametrize(
    "ranges", [("-p", "x=1..1000000000000"), ("-p", "x=0..1..1e-300"), ("-p", "x=1..2000", "-p", "name=1..2000")]
)
def test_more_sets_than_can_be_meant_are_refused_at_once(ranges, sweep, place):
    done = sweep(*ranges, *OUT, "-w", "scan")
    assert (done.returncode, "parameter sets, more than 1,000,000" in done.stderr) == (4, True)
    assert not (place / "scan").exists()


@pytest.mark.parametrize("more", [("-p", "x=1..2", "-p", "x=4..5"), ("-p", "x=1..2", "-p", "x=4")])
def test_a_range_given_twice_is_refused(more, sweep):
    done = sweep(*more, "-p", "name=a", *OUT)
    assert (done.returncode, "'x' is given with -p more than once" in done.stderr) == (4, True)


def test_what_looks_like_a_range_and_is_none_is_a_value(sweep, place):
    assert sweep("-p", "x=1", "-p", "name=a..b", *OUT, "-w", "scan").returncode == 0
    assert (place / "scan" / "0000" / "o").read_text() == "1 a..b\n"


def test_equal_sets_are_a_warning_and_under_strict_an_error(sweep, place):
    (place / "a.jsonl").write_text('{"x": 1, "name": "a"}\n{"name": "a", "x": 1}\n')
    done = sweep("--over", "a.jsonl", *OUT, "-w", "scan")
    assert done.returncode == 0
    assert "a.jsonl:2: the same parameter set as a.jsonl:1" in done.stderr
    assert ran(place / "scan") == [1, 1]
    strict = sweep("--over", "a.jsonl", *OUT, "-w", "other", "--strict")
    assert strict.returncode == 4
    assert not (place / "other").exists()


def test_a_parameter_that_nothing_uses_is_told_once(sweep):
    done = sweep("-p", "x=1..2", "-p", "name=a", "-p", "nmae=b", *OUT, "-w", "scan")
    assert done.returncode == 0
    assert done.stderr.count("nothing in the spec uses the parameter 'nmae'") == 1


def test_a_table_that_cannot_be_written_is_an_error_before_anything_runs(sweep, place):
    done = sweep("-p", "x=1..2", "-p", "name=a", *OUT, "-w", "scan", "--table", "no/such/t.csv")
    assert (done.returncode, "no/such/t.csv cannot be written" in done.stderr) == (73, True)
    assert not (place / "scan").exists()
    (place / "scan" / "results.csv").mkdir(parents=True)
    assert sweep("-p", "x=1..2", "-p", "name=a", *OUT, "-w", "scan").returncode == 73
    assert ran(place / "scan") == []


def test_names_of_results_and_parameters_do_not_mix_in_the_table(sweep, place):
    (place / "other.yml").write_text(SPEC.replace("outputmap: {o: out}", "outputmap: {x: out, status: name}"))
    done = sweep("-p", "x=1..2", "-p", "name=a", *OUT, "-w", "scan", spec="other.yml")
    assert done.returncode == 0
    rows = table(place / "scan" / "results.csv")
    assert [(row["x"], row["result.x"], row["result.status"], row["status"]) for row in rows] == [
        (str(number + 1), f"{place}/scan/{number:04}/o", "a", "succeeded") for number in range(2)
    ]


def test_parameters_do_not_hide_what_every_table_has_and_sets_may_differ(sweep, place):
    (place / "other.yml").write_text(SPEC.replace("outputmap: {o: out}", "outputmap: {x: out, more: name}"))
    (place / "a.jsonl").write_text(
        '{"x": 1, "name": "a", "status": "odd", "number": 7}\n{"x": 3, "name": "b", "more": 5}\n'
    )
    assert sweep("--over", "a.jsonl", *OUT, "-w", "scan", spec="other.yml").returncode == 6
    first, second = table(place / "scan" / "results.csv")
    assert [first[name] for name in ("number", "status", "parameter.number", "parameter.status")] == [
        *("0", "succeeded", "7", "odd")
    ]
    assert (first["more"], first["result.more"], second["more"]) == ("", "a", "5")
    assert (second["number"], second["status"]) == ("1", "failed")


@pytest.mark.parametrize("table", ["t.csv", "t.json"])
def test_a_published_file_with_a_name_that_is_not_utf8_is_in_the_table(table, sweep, place):
    glob = "publisher: {publisher_type: fromglob-pub, globexpression: '*.dat', outputkey: found}\n"
    spec = SPEC.partition("publisher:")[0].replace("echo >> ran", 'touch $(printf "{name}")')
    (place / "other.yml").write_text(spec + glob)
    name = "name='\\377.dat'"
    done = sweep("-p", "x=1..2", "-p", name, *OUT, "-w", "scan", "--table", table, spec="other.yml")
    assert (done.returncode, done.stderr) == (0, "")
    assert (place / table).read_text(encoding="utf-8").count("\\udcff.dat") == 2


def test_quiet_prints_nothing_but_failures(sweep):
    done = sweep("-q", "-p", "x=2..3", "-p", "name=a", *OUT, "-w", "scan")
    assert (done.returncode, done.stdout) == (6, "")
    assert "1 task failed" in done.stderr


def test_a_person_at_a_terminal_sees_a_bar_with_failures_and_it_is_gone_at_the_end(place):
    (place / "spec.yml").write_text(SPEC.replace("echo >> ran", "sleep 0.15"))
    master, slave = pty.openpty()
    argv = [str(Path(sys.executable).with_name("packtivity")), "map", "spec.yml", "-p", "x=1..8", "-p", "name=a", *OUT]
    running = subprocess.Popen(
        [*argv, "-w", "scan", "-b", "multiproc:1"],
        cwd=place,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "1"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    written = b""
    while True:
        try:
            written += os.read(master, 65536)
        except OSError:  # Linux says EIO when the last writer has gone
            break
    os.close(master)
    text = written.decode()
    assert running.wait(20) == 6
    assert "/8 tasks" in text
    assert ", 1 failed" in text
    assert " left" in text
    last = text.rpartition("\r\x1b[K")[2]
    assert last.startswith("7 of 8 tasks succeeded")


COMES_BACK = """
from packtivity.asyncbackends import ForegroundBackend
from packtivity.backends.status import TaskStatus

class Backend(ForegroundBackend):
    asked = 0

    def statuses(self, proxies):
        self.asked += 1
        if self.asked < 3:
            return [TaskStatus("unclear", reason="it is away") for _ in proxies]
        return [TaskStatus("succeeded" if proxy.success else "failed") for proxy in proxies]
"""


def test_an_engine_that_is_away_for_a_while_does_not_end_the_map(sweep, commands, place):
    commands.write("away.py", COMES_BACK)
    done = sweep("-p", "x=1..2", "-p", "name=a", *OUT, "-b", "py:away:Backend", path=place)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_cell_that_is_no_yaml_is_told_as_it_should_be_written(quick):
    quick.spec("'true'")
    quick.write("sets.csv", 'outputfile\n"{workdir}/a ""b"""\n')
    done = quick("packtivity", "map", "-b", "foregroundasync", "spec.yml", "--over", "sets.csv")
    assert done.returncode == 4
    (cell,) = re.findall(r"For this text, write in the file: (.*)", done.stderr)
    quick.write("sets.csv", f"outputfile\n{cell}\n")
    assert quick("packtivity", "map", "-b", "foregroundasync", "spec.yml", "--over", "sets.csv").returncode == 0
    assert json.loads((quick.directory / "map/0000/_packtivity/packtivity.outcome.json").read_text())["result"] == {
        "output": f'{quick.directory}/map/0000/a "b"'
    }


def test_cells_are_doubted_as_options_are(quick):
    quick.spec("'echo {name} {other}'")
    quick.write("sets.csv", "outputfile,name,other\no,010,NO\no,x,2024-01-01\no,12:30:00,no\n")
    call = ("packtivity", "map", "-b", "foregroundasync", "spec.yml", "--over", "sets.csv")
    done = quick(*call)
    assert done.returncode == 0
    octal, truth, date = (line for line in done.stderr.splitlines() if "warning[" in line)
    assert octal.startswith("sets.csv:2:1:1: warning[not-as-written]: 010 is the number 8 in YAML 1.1")
    assert octal.endswith("(2 cells of the column 'name' are such)")
    assert "NO is false" in truth
    assert truth.endswith("(2 cells of the column 'other' are such)")
    assert date.startswith("sets.csv:3:1:1: warning[date-as-string]: 2024-01-01 is a date")
    assert 'help: Write """010""" for the text, or 10 for the number.\n' in done.stderr
    assert quick(*call, "--strict").returncode == 4
    quick.write("sets.csv", 'outputfile,name,other\no,"""010""","""NO"""\no,x,"""2024-01-01"""\n')
    done = quick(*call, "--strict")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((quick.directory / "map/0000/_packtivity/packtivity.outcome.json").read_text())["status"]


def test_a_map_says_how_to_give_what_is_missing(quick):
    quick.spec("'echo {name} {other}'")
    done = quick("packtivity", "map", "-b", "foregroundasync", "spec.yml", "-p", "name=1..3")
    assert (done.returncode, "Traceback" in done.stderr) == (4, False)
    assert "Pass -p other=VALUE -p outputfile=VALUE, or fill in" in done.stderr
    assert "`packtivity example spec.yml`" in done.stderr


@pytest.mark.parametrize("word", ["NaN", "-Infinity"])
def test_a_line_of_json_has_only_numbers_of_json(quick, word):
    quick.spec("'echo {name}'")
    quick.write("sets.jsonl", f'{{"outputfile": "o", "name": {word}}}\n')
    done = quick("packtivity", "map", "-b", "foregroundasync", "spec.yml", "--over", "sets.jsonl")
    assert (done.returncode, f"sets.jsonl:1: not JSON: {word}" in done.stderr) == (4, True)


def test_a_map_doubts_resources_once_and_before_anything_runs(quick):
    spec = {
        "process": {"process_type": "string-interpolated-cmd", "cmd": "true {x}"},
        "environment": {
            "environment_type": "docker-encapsulated",
            "image": "nowhere.invalid/base",
            "imagetag": "1",
            "resources": ["kerberos", {"kubernetes_memory_limit": "8GB"}],
        },
        "publisher": {"publisher_type": "constant-pub", "publish": {}},
    }
    quick.write("spec.json", json.dumps(spec))
    done = quick("packtivity", "map", "-b", "foregroundasync", "spec.json", "-p", "x=1..3", "-w", "out", "--strict")
    assert done.returncode == 4
    assert done.stderr.count("error[unknown-resource]") == done.stderr.count("error[unreadable-resource]") == 1
    assert "Did you mean 8G?" in done.stderr
    assert not (quick.directory / "out").exists()
