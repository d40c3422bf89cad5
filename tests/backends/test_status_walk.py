"""Many thousand ways in which a task may come to its end, none of which runs it beside itself or tells a lie of it."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from walk import WEIGHTS, Broken, World, actions, walk

SIZES = [pytest.param(5000, id="sample"), pytest.param(100_000, id="soak", marks=pytest.mark.soak)]


@pytest.mark.parametrize("count", SIZES)
def test_wherever_a_walk_leads_the_task_ends_once_and_truly(count):
    ends, begun = Counter(), Counter()
    for seed in range(count):
        world = walk(seed, 200)
        ends[world.record] += 1
        begun[world.begun] += 1
    assert set(ends) == {"succeeded", "cancelled", "failed"}
    assert begun[0] > count / 100
    assert sum(times for number, times in begun.items() if number > 1) > count / 20


@pytest.mark.parametrize("bug", ["looks before it asks for the end", "concludes without the lock"])
def test_a_walk_would_find_a_known_fault(bug):
    """A test of the test: these are faults that a prototype had."""

    def walk_many():
        for seed in range(20_000):
            walk(seed, 200, bug)

    with pytest.raises(Broken, match="under a run|although"):
        walk_many()


class Machine(RuleBasedStateMachine):
    """The same world, for a searcher that knows what it is looking for and makes what it finds small."""

    def __init__(self):
        super().__init__()
        self.world = World(random.Random(0))
        self.possible = actions(self.world)

    @rule(names=st.lists(st.sampled_from([*WEIGHTS]), min_size=1, max_size=12), seed=st.integers(0, 7))
    def act(self, names, seed):
        self.world.chance.seed(seed)
        for name in names:
            self.possible[name]()

    def teardown(self):
        self.world.finish()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)
