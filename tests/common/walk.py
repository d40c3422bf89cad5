"""A model of one task whose keepers, runners and engine stop, lie and die between any two steps; the decisions are the real ones.

Every actor is a generator that does one thing that cannot be divided and then yields. So whatever order the steps are taken
in is one that real processes might have taken them in.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from packtivity.backends.status import DELIVERIES, Decision, Limits, Native, Seen, decide
from packtivity.record import ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    Steps = Iterator[None]

LIMITS = Limits(arrival=3.0, begin=20.0, lag=1.0)
WORDS = [Native(said) for said in ("waiting", "running", "ended", "gone", "away")]  # type: ignore[arg-type]
WORDS += [Native("ended", cause="timeout"), Native("ended", cause="memory"), Native("ended", cause="cancel")]


class Broken(AssertionError):
    """Something has happened that must never happen."""


@dataclass(eq=False)
class Runner:
    """Whoever runs the task: for our submission (``mine``), or for another one of the same task."""

    mine: bool
    alive: bool = True
    steps: Steps = field(default_factory=lambda: iter(()))


@dataclass(eq=False)
class Keeper:
    """Whoever asks; only an owner tends."""

    own: bool = True
    steps: Steps = field(default_factory=lambda: iter(()))


@dataclass(eq=False)
class Delivery:
    """What the engine has."""

    runner: Runner | None = None


@dataclass
class Claim:
    """What the file says that a runner locks."""

    mine: bool
    attempts: int


class World:
    """One task that has just been given away.

    :param bug: a fault to be built in, so that it is known that it would be found.
    """

    def __init__(self, chance: random.Random, bug: str = "") -> None:
        self.chance, self.bug = chance, bug
        self.now = 0.0
        self.record: str | None = None
        self.cancel = False
        self.lock: object = None
        self.claim: Claim | None = None
        self.running: list[Runner] = []
        self.deliveries = [Delivery()]
        self.sent, self.sent_at = 1, 0.0
        self.seen: tuple[tuple[object, ...], float] | None = None
        self.tended_by: Keeper | None = None
        self.runners: list[Runner] = []
        self.keepers: list[Keeper] = []
        self.honest = False
        self.lie: Native | None = None
        self.begun = 0

    # --- what must hold ---

    def begin(self, runner: Runner) -> None:
        if self.running:
            raise Broken("the task runs beside itself")
        if runner.mine and self.record is not None:
            raise Broken(f"a run begins although the record says {self.record}")
        self.running.append(runner)
        self.begun += runner.mine

    def write(self, status: str, runner: Runner | None) -> None:
        """Write the record; whoever is first has written it."""
        if self.record is not None:
            return
        if any(each.mine and each is not runner for each in self.running):
            raise Broken(f"a record that says {status} is written under a run")
        if status == "succeeded" and (runner is None or runner not in self.running):
            raise Broken("a success of nobody's")
        self.record = status

    # --- the engine ---

    def look(self) -> Native:
        if self.lie is not None:
            return self.lie
        if not self.honest and self.chance.random() < 0.1:
            return self.chance.choice(WORDS)
        if any(each.runner is None for each in self.deliveries):
            return Native("waiting")
        return Native("running" if self.deliveries else "gone")

    def start(self) -> None:
        """Begin something that waits."""
        waiting = [each for each in self.deliveries if each.runner is None]
        if waiting:
            delivery = self.chance.choice(waiting)
            delivery.runner = self.new_runner(mine=True)

    def new_runner(self, *, mine: bool) -> Runner:
        runner = Runner(mine)
        runner.steps = self.run(runner)
        self.runners.append(runner)
        return runner

    def believe(self) -> None:
        """Begin to say the same of everything, or stop that."""
        self.lie = self.chance.choice(WORDS) if self.lie is None else None

    def lose(self) -> None:
        """Forget something, whether it waits or runs."""
        if self.deliveries:
            self.deliveries.remove(self.chance.choice(self.deliveries))

    def run(self, runner: Runner) -> Steps:
        while self.lock is not None:
            holder = self.lock
            if isinstance(holder, Runner) and not holder.alive:  # what it has left running is ended
                self.end_orphan(holder)
            yield
        self.lock = runner
        yield
        before = self.claim.attempts if self.claim is not None and self.claim.mine == runner.mine else 0
        self.claim = Claim(runner.mine, before + 1)
        yield
        over = runner.mine and self.record is not None
        yield
        told = runner.mine and self.cancel
        yield
        if not over and told:
            self.write("cancelled", runner)
        elif not over and before >= ATTEMPTS and runner.mine:
            self.write("failed", runner)
        elif not over:
            self.begin(runner)
            for _ in range(self.chance.randrange(1, 6)):
                yield
            if runner.mine:
                self.write("succeeded", runner)
            self.running.remove(runner)
        yield
        self.claim = None
        if runner.mine:
            self.cancel = False
        yield
        self.lock = None

    def end_orphan(self, holder: Runner) -> None:
        if holder in self.running:
            self.running.remove(holder)
        self.lock = None

    def kill_runner(self) -> None:
        """Kill a runner; what it has started may live on and hold the lock."""
        living = [each for each in self.runners if each.alive]
        if not living:
            return
        victim = self.chance.choice(living)
        victim.alive = False
        self.runners.remove(victim)
        if not (victim in self.running and self.chance.random() < 0.5):
            self.release(victim)
        else:
            self.lock = victim
        if self.chance.random() < 0.5:  # else the engine never hears of it
            self.deliveries = [each for each in self.deliveries if each.runner is not victim]

    def release(self, holder: object) -> None:
        if isinstance(holder, Runner) and holder in self.running:
            self.running.remove(holder)
        if self.lock is holder:
            self.lock = None
        if self.tended_by is holder:
            self.tended_by = None

    def advance_runner(self) -> None:
        if self.runners:
            runner = self.chance.choice(self.runners)
            if next(runner.steps, self) is self:
                self.runners.remove(runner)
                self.deliveries = [each for each in self.deliveries if each.runner is not runner]
        orphan = self.lock
        if isinstance(orphan, Runner) and not orphan.alive and self.chance.random() < 0.05:
            self.end_orphan(orphan)

    # --- keepers ---

    def new_keeper(self, *, own: bool, cancels: bool = False) -> Keeper:
        keeper = Keeper(own)
        keeper.steps = self.cancelling(keeper) if cancels else self.asking(keeper)
        self.keepers.append(keeper)
        return keeper

    def kill_keeper(self) -> None:
        if self.keepers:
            victim = self.chance.choice(self.keepers)
            self.keepers.remove(victim)
            self.release(victim)

    def advance_keeper(self) -> None:
        if self.keepers:
            keeper = self.chance.choice(self.keepers)
            if next(keeper.steps, self) is self:
                self.keepers.remove(keeper)

    def see_lock(self) -> tuple[str, int]:
        mine = self.claim is not None and self.claim.mine
        attempts = self.claim.attempts if mine and self.claim is not None else 0
        if self.lock is not None:
            return ("mine" if mine else "other"), attempts
        return ("left" if mine else "absent"), attempts

    def observed(self) -> Generator[None, None, tuple[Native, bool, str, int]]:
        """Look at everything but the record, in the order in which the keeper does."""
        native = self.look()
        yield
        cancel = self.cancel
        yield
        lock, attempts = self.see_lock()
        yield
        return native, cancel, lock, attempts

    def asking(self, keeper: Keeper) -> Steps:
        native, cancel, lock, attempts = yield from self.observed()
        yield from self.decided(keeper, native, lock, attempts, cancel=cancel)

    def cancelling(self, keeper: Keeper) -> Steps:
        if self.record is not None:
            return
        yield
        if self.bug == "looks before it asks for the end":
            native = self.look()
            lock, attempts = self.see_lock()
            yield
            self.cancel = True
            yield
            yield from self.decided(keeper, native, lock, attempts, cancel=True, again=False)
            return
        self.cancel = True
        yield
        yield from self.asking(keeper)

    def decided(
        self, keeper: Keeper, native: Native, lock: str, attempts: int, *, cancel: bool, again: bool = True
    ) -> Steps:
        if self.record is not None:
            return
        decision = self.decide(keeper, native, lock, attempts, cancel=cancel)
        if not keeper.own and decision.todo:
            raise Broken("who is not the owner is to do something")
        yield
        if not {"conclude", "deliver", "end"} & {*decision.todo} or self.tended_by is not None:
            return
        self.tended_by = keeper
        yield
        if again:
            native, cancel, lock, attempts = yield from self.observed()
            if self.record is None:
                decision = self.decide(keeper, native, lock, attempts, cancel=cancel)
            else:
                decision = Decision("1", "succeeded")
        yield
        if "conclude" in decision.todo:
            yield from self.conclude(keeper, decision, lock)
        elif "end" in decision.todo:
            if isinstance(self.lock, Runner) and not self.lock.alive:
                self.end_orphan(self.lock)
            yield
        elif "deliver" in decision.todo:
            if self.sent > DELIVERIES:
                raise Broken("given away too often")
            self.sent, self.sent_at = self.sent + 1, self.now
            yield
            self.deliveries.append(Delivery())
            yield
        self.tended_by = None

    def decide(self, keeper: Keeper, native: Native, lock: str, attempts: int, *, cancel: bool) -> Decision:
        known = {"cancel": cancel, "own": keeper.own, "age": self.now - self.sent_at, "attempts": attempts}
        first = decide(Seen(native, lock, deliveries=self.sent, **known), LIMITS)  # type: ignore[arg-type]
        if not keeper.own:
            return first
        word = (lock, native.said, self.sent)
        if not first.timed:
            self.seen = None
            return first
        if self.seen is None or self.seen[0] != word:
            self.seen = word, self.now
        stable = self.now - self.seen[1]
        return decide(Seen(native, lock, deliveries=self.sent, stable=stable, **known), LIMITS)  # type: ignore[arg-type]

    def conclude(self, keeper: Keeper, decision: Decision, lock: str) -> Steps:
        status = "cancelled" if decision.cause == "cancel" else "failed"
        if self.bug == "concludes without the lock":
            if self.record is None:
                yield
                self.write(status, None)
            return
        if self.bug != "looks before it asks for the end":
            lock, _ = self.see_lock()
            yield
        if lock == "other" and self.cancel:
            if self.record is None:
                self.write(status, None)
            return
        if self.lock is not None:
            return
        self.lock = keeper
        yield
        if self.record is None:
            yield
            self.write(status, None)
        yield
        if self.claim is not None and self.claim.mine:
            self.claim = None
        self.lock = None
        yield
        self.cancel = False

    # --- time ---

    def tick(self) -> None:
        self.now += self.chance.choice((0.1, 0.5, 1.5, 6.0))

    def kill_engine(self) -> None:
        """Let the engine forget everything at once."""
        self.deliveries.clear()

    def another_submission(self) -> None:
        if sum(not each.mine for each in self.runners) < 2:
            self.new_runner(mine=False)

    def finish(self, steps: int = 4000) -> None:
        """Let everybody be honest and immortal, and see that the task ends."""
        self.honest, self.lie = True, None
        for _ in range(steps):
            if self.record is not None and not self.running and not self.runners:
                return
            self.start()
            if not any(each.own for each in self.keepers):
                self.new_keeper(own=True)
            self.advance_runner()
            self.advance_keeper()
            if self.chance.random() < 0.2:
                self.tick()
        raise Broken(f"the task does not end: {vars(self)}")


def actions(world: World) -> dict[str, object]:
    """What may happen next, by name."""
    return {
        "runner": world.advance_runner,
        "keeper": world.advance_keeper,
        "start": world.start,
        "tick": world.tick,
        "asks": lambda: world.new_keeper(own=True),
        "another owner's program asks": lambda: world.new_keeper(own=True),
        "a stranger asks": lambda: world.new_keeper(own=False),
        "cancel": lambda: world.new_keeper(own=True, cancels=True),
        "another submission": world.another_submission,
        "the engine delivers twice": lambda: world.deliveries.append(Delivery()),
        "the engine lies": world.believe,
        "the engine loses": world.lose,
        "the engine forgets": world.kill_engine,
        "kill a runner": world.kill_runner,
        "kill a keeper": world.kill_keeper,
    }


WEIGHTS = {
    "runner": 40,
    "keeper": 50,
    "start": 2,
    "tick": 15,
    "asks": 5,
    "another owner's program asks": 4,
    "a stranger asks": 1,
    "cancel": 0.5,
    "another submission": 2,
    "the engine delivers twice": 2,
    "the engine lies": 6,
    "the engine loses": 1,
    "the engine forgets": 0.3,
    "kill a runner": 3,
    "kill a keeper": 2,
}


def walk(seed: int, steps: int, bug: str = "") -> World:
    """Take so many steps at random, then let the task come to its end; what the world has become.

    :raises Broken: something has happened that must never happen.
    """
    chance = random.Random(seed)
    world = World(chance, bug)
    possible = actions(world)
    for name in chance.choices([*WEIGHTS], [*WEIGHTS.values()], k=steps):
        possible[name]()  # type: ignore[operator]
        if world.record is not None and not world.runners and not world.keepers:
            break
    world.finish()
    return world
