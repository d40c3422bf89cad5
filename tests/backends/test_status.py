"""The status of a task without a record: each row of the table, which rows hide which, and what nobody may do."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from packtivity.backends.status import CANCEL_GRACE, DELIVERIES, Limits, Native, Seen, decide
from packtivity.record import ATTEMPTS

LIMITS = Limits(arrival=5.0, begin=120.0, lag=1.0)
POOL = Limits(final=True, revives=False)
COLLECTS = Limits(arrival=5.0, lag=1.0, collects=True)
LONG = 1e6


def seen(said, lock, *, cause=None, **known):
    return Seen(Native(said, cause=cause), lock, **known)


TABLE = [
    # row, engine, lock, more                                         word, todo, cause
    ("2", seen("gone", "mine", stable=1.0), "lost", ("deliver",), None),
    ("2", seen("ended", "mine", stable=1.0, cancel=True), "lost", ("deliver",), None),
    ("2b", seen("ended", "mine", cause="cancel", stable=1.0), "lost", ("end",), "cancel"),
    ("2b", seen("ended", "mine", cause="timeout", stable=LONG, attempts=ATTEMPTS), "lost", ("end",), "timeout"),
    ("3", seen("gone", "mine", stable=0.9), "running", (), None),
    ("3", seen("ended", "mine", cause="cancel", stable=0.9), "running", (), None),
    ("3", seen("away", "mine", stable=LONG), "running", (), None),
    ("3", seen("waiting", "mine", stable=LONG), "running", (), None),
    ("3", seen("running", "mine", cancel=True, stable=CANCEL_GRACE - 0.1), "running", (), None),
    ("3", seen("running", "mine", cancel=True, stable=CANCEL_GRACE), "running", ("kill",), None),
    ("4", seen("running", "unseen", cancel=True), "running", ("kill",), None),
    ("4", seen("waiting", "unseen", cancel=True), "waiting", ("kill",), None),
    ("5", seen("waiting", "absent", cancel=True), "lost", ("conclude", "kill"), "cancel"),
    ("5", seen("running", "absent", cancel=True), "lost", ("conclude", "kill"), "cancel"),
    ("5", seen("away", "left", cancel=True), "lost", ("conclude", "kill"), "cancel"),
    ("5", seen("gone", "other", cancel=True), "lost", ("conclude", "kill"), "cancel"),
    ("6", seen("gone", "other", stable=LONG, age=LONG), "waiting", (), None),
    ("6", seen("running", "other", stable=LONG), "waiting", (), None),
    ("7", seen("away", "absent", stable=LONG), "unclear", (), None),
    ("7", seen("away", "left", stable=LONG), "unclear", (), None),
    ("8", seen("waiting", "absent", stable=LONG), "waiting", (), None),
    ("8", seen("waiting", "left", stable=LONG), "waiting", (), None),
    ("9", seen("running", "left", stable=5.0), "lost", ("kill", "deliver"), None),
    ("9", seen("running", "left", stable=5.0, attempts=ATTEMPTS), "lost", ("kill", "conclude"), "lost"),
    ("10", seen("running", "absent", stable=120.0), "lost", ("kill", "deliver"), None),
    ("10", seen("running", "absent", stable=120.0, deliveries=DELIVERIES), "lost", ("kill", "conclude"), "lost"),
    ("11", seen("running", "left", stable=4.9), "running", (), None),
    ("11", seen("running", "absent", stable=119.0), "running", (), None),
    ("11", seen("running", "unseen", stable=LONG), "running", (), None),
    ("12", seen("ended", "left", cause="timeout", stable=0.9), "lost", (), "timeout"),
    ("12", seen("ended", "left", cause="timeout", stable=1.0), "lost", ("conclude",), "timeout"),
    ("12", seen("ended", "absent", cause="memory", stable=1.0), "lost", ("conclude",), "memory"),
    ("12", seen("ended", "unseen", cause="refused", stable=1.0), "lost", ("conclude",), "refused"),
    ("13", seen("gone", "absent", own=False, age=LONG), "unknown", (), None),
    ("13", seen("gone", "unseen", own=False), "unknown", (), None),
    ("13", seen("unknown", "absent", stable=LONG, age=LONG), "unknown", (), None),
    ("14", seen("gone", "absent", age=4.9, stable=LONG), "waiting", (), None),
    ("15", seen("gone", "absent", age=5.0, stable=0.9), "lost", (), None),
    ("15", seen("gone", "absent", age=5.0, stable=1.0), "lost", ("deliver",), None),
    ("15", seen("ended", "absent", age=0.0, stable=1.0), "lost", ("deliver",), None),
    ("15", seen("gone", "left", age=0.0, stable=1.0, attempts=ATTEMPTS - 1), "lost", ("deliver",), None),
    ("15", seen("gone", "left", stable=1.0, attempts=ATTEMPTS), "lost", ("conclude",), "lost"),
    ("15", seen("ended", "absent", stable=1.0, deliveries=DELIVERIES), "lost", ("conclude",), "lost"),
    ("15", seen("gone", "left", own=False), "lost", (), None),
]


@pytest.mark.parametrize(("row", "known", "word", "todo", "cause"), TABLE)
def test_the_table(row, known, word, todo, cause):
    found = decide(known, LIMITS)
    assert (found.row, found.word, found.todo, found.cause) == (row, word, todo, cause)


COLLECTED = [
    ("7", seen("away", "unseen", stable=LONG), "unclear", (), None),
    ("7", seen("away", "unseen", cancel=True), "unclear", (), None),
    ("8", seen("waiting", "unseen", stable=LONG), "waiting", (), None),
    ("11", seen("running", "unseen", stable=LONG), "running", (), None),
    ("13", seen("unknown", "unseen", cancel=True), "unknown", (), None),
    ("13", seen("gone", "unseen", own=False), "unknown", (), None),
    ("14", seen("gone", "unseen", age=4.9), "waiting", (), None),
    ("15", seen("gone", "unseen", age=5.0, stable=1.0), "lost", ("deliver",), None),
    ("15", seen("gone", "unseen", age=5.0, stable=1.0, deliveries=DELIVERIES), "lost", ("conclude",), "lost"),
    ("16", seen("running", "unseen", cancel=True), "running", ("collect",), "cancel"),
    ("16", seen("ended", "unseen", cancel=True), "lost", ("collect",), "cancel"),
    ("17", seen("ended", "unseen"), "lost", ("collect",), None),
    ("17", seen("ended", "unseen", cause="timeout"), "lost", ("collect",), None),
]


@pytest.mark.parametrize(("row", "known", "word", "todo", "cause"), COLLECTED)
def test_the_table_for_engines_without_a_worker_of_ours(row, known, word, todo, cause):
    found = decide(known, COLLECTS)
    assert (found.row, found.word, found.todo, found.cause) == (row, word, todo, cause)


def test_without_a_worker_of_ours_too_only_the_owner_has_anything_to_do_and_nothing_while_the_engine_is_away():
    for known in EVERYTHING:
        if not known.own or known.native.said == "away":
            assert decide(known, COLLECTS).todo == ()
        if known.native.said in ("waiting", "running") and not known.cancel:
            assert decide(known, COLLECTS).todo == ()


def test_every_row_is_in_the_test_of_the_table():
    assert {row for row, *_ in TABLE} == {
        "2",
        "2b",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
        "9",
        "10",
        "11",
        "12",
        "13",
        "14",
        "15",
    }


@pytest.mark.parametrize(("cancel", "cause"), [(False, "lost"), (True, "cancel")])
@pytest.mark.parametrize("lock", ["left", "absent", "other", "unseen"])
def test_the_tasks_of_a_pool_that_is_dead_are_over_for_everybody(lock, cancel, cause):
    found = decide(seen("gone", lock, own=False, cancel=cancel), POOL)
    assert (found.row, found.cause, found.todo) == ("P", cause, ())
    assert decide(seen("gone", "mine", own=False, cancel=cancel, stable=LONG), POOL).word == "running"


EVERYTHING = [
    seen(
        said,
        lock,
        cause=cause,
        **dict(zip(("cancel", "own", "age", "stable", "deliveries", "attempts"), rest, strict=True)),
    )
    for said, lock, cause, *rest in itertools.product(
        ("waiting", "running", "ended", "gone", "away", "unknown"),
        ("mine", "other", "left", "absent", "unseen"),
        (None, "timeout"),
        (False, True),
        (False, True),
        (0.0, LONG),
        (0.0, 2.0, LONG),
        (1, DELIVERIES),
        (0, ATTEMPTS),
    )
]


def test_whoever_is_not_the_owner_is_given_nothing_to_do():
    for known in EVERYTHING:
        if not known.own:
            assert decide(known, LIMITS).todo == ()


def test_nothing_is_concluded_or_given_away_again_while_a_runner_that_its_engine_knows_holds_the_lock():
    for known in EVERYTHING:
        if known.lock == "mine":
            todo = decide(known, LIMITS).todo
            assert "conclude" not in todo
            assert "deliver" not in todo or known.native.said in ("ended", "gone")


def test_what_its_engine_has_ended_for_a_reason_is_never_given_away_again():
    for known in EVERYTHING:
        if known.native.said == "ended" and known.native.cause is not None:
            assert "deliver" not in decide(known, LIMITS).todo


def test_an_engine_that_is_away_leads_to_nothing_but_what_was_asked_for():
    for known in EVERYTHING:
        if known.native.said == "away" and not known.cancel:
            assert decide(known, LIMITS).todo == ()


def test_what_is_seen_for_the_first_time_is_not_acted_upon_unless_its_end_was_asked_for():
    for known in EVERYTHING:
        if known.stable == 0.0 and not known.cancel:
            assert decide(known, LIMITS).todo == ()


def test_whatever_depends_on_for_how_long_it_has_been_so_says_that_it_does():
    for known in EVERYTHING:
        fresh, stale = (decide(replace(known, stable=stable), LIMITS) for stable in (0.0, LONG))
        if known.own and fresh.todo != stale.todo:
            assert fresh.timed
            assert stale.timed


def test_a_task_is_never_both_concluded_and_given_away_again():
    for known in EVERYTHING:
        assert not {"conclude", "deliver"} <= {*decide(known, LIMITS).todo}
