from __future__ import annotations

import collections
import threading
import time

from reconciler.daemon import turns


def test_hung_turns_do_not_delay_the_others() -> None:
    """More hung targets than the limit of turns at once, and everybody else is served at the rhythm asked for."""
    hung, release, counts = {f"t{i}" for i in range(20)}, threading.Event(), collections.Counter[str]()

    def turn(name: str) -> float:
        counts[name] += 1
        if name in hung:
            release.wait(30)
        return 0.05

    fair = turns.Turns(turn, limit=8, patience_s=0.1)
    for i in range(100):
        fair.wake(f"t{i}")
    runner = threading.Thread(target=fair.run)
    runner.start()
    end = time.monotonic() + 20
    while min(counts[f"t{i}"] for i in range(100) if f"t{i}" not in hung) < 10 and time.monotonic() < end:
        time.sleep(0.05)
    served = [counts[f"t{i}"] for i in range(100) if f"t{i}" not in hung]
    release.set()
    fair.stop()
    runner.join(30)
    assert min(served) >= 10
    assert all(counts[name] == 1 for name in hung), "one turn at a time for each name"
    assert fair.fatal is None


def test_a_wake_during_a_turn_makes_the_next_one_follow_at_once() -> None:
    begun, go_on, second = threading.Event(), threading.Event(), threading.Event()

    def turn(name: str) -> float:
        if begun.is_set():
            second.set()
        begun.set()
        go_on.wait(10)
        return 3600

    fair = turns.Turns(turn)
    fair.wake("t")
    runner = threading.Thread(target=fair.run)
    runner.start()
    begun.wait(10)
    fair.wake("t")
    go_on.set()
    assert second.wait(10)
    fair.stop()
    runner.join(30)


def test_whatever_a_turn_raises_ends_the_process() -> None:
    def turn(name: str) -> float:
        raise KeyError(name)

    fair = turns.Turns(turn)
    fair.wake("t")
    fair.run()
    assert isinstance(fair.fatal, KeyError)


def test_stopping_lets_a_running_turn_end() -> None:
    begun, ended = threading.Event(), threading.Event()

    def turn(name: str) -> float:
        begun.set()
        time.sleep(0.2)
        ended.set()
        return 0

    fair = turns.Turns(turn)
    fair.wake("t")
    runner = threading.Thread(target=fair.run)
    runner.start()
    begun.wait(10)
    fair.stop()
    runner.join(30)
    assert ended.is_set()


def test_nothing_is_idle_while_a_turn_is_due_again() -> None:
    """Turns that follow one another at once, many times over: the run ends when all are over and not before."""
    for _ in range(100):
        left = {"a": 20, "b": 20}

        def turn(name: str, left: dict[str, int] = left) -> float | None:
            left[name] -= 1
            return 0 if left[name] else None

        fair = turns.Turns(turn)
        fair.wake("a")
        fair.wake("b")
        assert fair.run(until_idle=True)
        assert left == {"a": 0, "b": 0}


def test_what_is_repeated_beside_others_goes_on_while_they_run_and_nobody_waits_for_it() -> None:
    polled, three = [0], threading.Event()

    def turn(name: str) -> float | None:
        if name == "slow":
            assert three.wait(10)
            return None
        polled[0] += 1
        if polled[0] == 1:
            fair.wake("slow")
        if polled[0] == 3:
            three.set()
            return 3600
        return 0.01

    fair = turns.Turns(turn)
    fair.wake("watch")
    assert fair.run(until_idle=True, beside=frozenset({"watch"}))
    assert polled == [3]
