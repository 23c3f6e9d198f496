import threading

from pretrain.track.background import Background


def test_tasks_are_done_in_order() -> None:
    done: list[int] = []
    background = Background("test", most_waiting=100)
    for number in range(50):
        assert background.submit(lambda number=number: done.append(number))
    assert background.finish(60)
    assert done == list(range(50))


def test_whoever_hands_over_never_waits_and_is_refused_when_too_many_wait() -> None:
    begun, release, done = threading.Event(), threading.Event(), []

    def hang() -> None:
        begun.set()
        release.wait()

    background = Background("test", most_waiting=3)
    assert background.submit(hang)
    assert begun.wait(60)
    assert [background.submit(lambda: done.append(1)) for _ in range(5)] == [True] * 3 + [False] * 2
    assert not background.finish(0.01), "the first one hangs"
    release.set()
    assert background.finish(60)
    assert len(done) == 3
