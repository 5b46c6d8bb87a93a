"""The same function on many items: here, in processes of this machine, or on a Ray cluster; results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from duologue.base.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Items in work per worker: enough that none waits, few enough that memory stays constant."""


def spread(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int = 1, *, ray: bool = False
) -> Iterator[Result]:
    """Yield `function(item)` of each item in their order, a bounded number of them in work at once.

    `function` and items must be picklable if there are several workers, which are new processes (spawned, not forked).
    They end when this process is gone, however it ended.

    Raises:
        UserError: fewer than one worker, or Ray is asked for and not installed.
    """
    if workers < 1:
        raise UserError(f"{workers} workers cannot work", place="--workers", mend="use 1 or more")
    if ray:
        return _on_ray(function, items, workers)
    return map(function, items) if workers == 1 else _in_processes(function, items, workers)


def _in_processes(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    from concurrent.futures import Future, ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _begin() -> None:
    """Each process computes on one core, which torch and numpy read when they are imported, and watches its parent."""
    import threading

    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent has.

    A pool's workers do not see by themselves that a signal killed their parent: they work off what was handed out and
    then wait for more for ever, since each of them holds the writing end of the queue, too.
    """
    from multiprocessing import parent_process

    parent = parent_process()
    assert parent is not None  # a spawned process has one
    parent.join()
    os._exit(1)  # not sys.exit, which ends a thread only


def _on_ray(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    import importlib

    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise UserError("Ray is not installed", place="--ray", mend="pip install 'duologue[ray]'") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False)  # the cluster that RAY_ADDRESS names, else one on this machine
    shared = ray.put(function)
    remote = ray.remote(_apply)
    waiting: deque[Any] = deque()
    for item in items:
        waiting.append(remote.remote(shared, item))
        if len(waiting) >= AHEAD * workers:
            yield ray.get(waiting.popleft())
    while waiting:
        yield ray.get(waiting.popleft())


def _apply(function: Callable[[Item], Result], item: Item) -> Result:
    """Ray takes plain functions only; this one calls any other."""
    return function(item)
