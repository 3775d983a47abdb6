from __future__ import annotations

import pytest

from bench.profile import (
    RECEIVING,
    SCHEDULING,
    WAITING,
    Frame,
    count_samples,
    layer_of,
    parse_samples,
)

RUN = "main (lfs/mount/main.py:96);run (trio/_core/_run.py:2532)"
HANDLER = f"{RUN};wrapper (_pyfuse3.py:58);handler (lfs/fuse/handlers.py:83)"


@pytest.mark.parametrize(
    ("stack", "layer"),
    [
        (f"{RUN};get_events (trio/_core/_io_epoll.py:243)", WAITING),
        (f"{RUN};wrapper (_pyfuse3.py:58);RequestWaiter.wait (lfs/kernel/loop.py:87)", WAITING),
        (f"{RUN};async_wrapper.<locals>.wrapper (_pyfuse3.py:58)", RECEIVING),
        (f"{RUN};__init__ (<attrs generated methods outcome._impl.Value>:14)", SCHEDULING),
        (HANDLER, "lfs/fuse"),
        (f"{RUN};Latency.turn (lfs/kernel/latency.py:60)", "lfs/fuse"),
        (f"{HANDLER};Imap.get (lfs/imap/map.py:107)", "lfs/imap"),
        (f"{HANDLER};Imap.get (lfs/imap/map.py:107);add (sortedlist.py:3)", "lfs/imap"),
        (f"{HANDLER};write (lfs/device/file.py:9)", "lfs/device"),
    ],
)
def test_sample_counts_to_the_layer_that_works(stack: str, layer: str) -> None:
    [(frames, count)] = parse_samples(f"{stack} 12\n")
    assert count == 12
    assert layer_of(frames) == layer


def test_frame_is_shown_by_name_and_path() -> None:
    [(frames, _)] = parse_samples("a (b.py:1);<lambda> (<string>:1) 3\n")
    assert frames == [Frame("a", "b.py"), Frame("<lambda>", "<string>")]
    assert str(frames[0]) == "a (b.py)"


def test_what_a_worker_thread_does_takes_the_place_of_waiting() -> None:
    main = "<module> (lfs/mount/main.py:187);run (trio/_core/_run.py:2532)"
    worker = "WorkerThread._work (trio/_core/_thread_cache.py:209)"
    layers, functions = count_samples(
        f"{main};get_events (trio/_core/_io_epoll.py:243) 7\n"
        f"{main};handler (lfs/fuse/handlers.py:83) 3\n"
        f"{worker};flush (lfs/device/file.py:9) 5\n"
        f"{worker} 900\n"
        "Thread.run (threading.py:982);Writeback._run (lfs/device/writeback.py:77) 800\n"
    )
    assert layers == {WAITING: 2, "lfs/fuse": 3, "lfs/device": 5}
    assert functions == {"flush (lfs/device/file.py)": 5, "handler (lfs/fuse/handlers.py)": 3}
