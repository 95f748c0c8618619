"""
The visit's threads, as one: what they would do is done in the visit's own, in order.

Rules of this file:

- *Eager*: work is done when it is handed over. *Lazy*: when its result is asked for, as
  late as can be. Whatever threads do lies between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Self


class Later:
    """
    A future whose work is done, at the latest, by who asks for the result.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._work: Callable[[], object] | None = work
        self._result: object = None
        self._error: BaseException | None = None

    def result(self) -> object:
        self.work()
        if self._error is not None:
            raise self._error
        return self._result

    def work(self) -> None:
        """
        Do the work, unless it is done.
        """
        work, self._work = self._work, None
        if work is not None:
            try:
                self._result = work()
            except BaseException as error:  # noqa: BLE001 -- as a future does
                self._error = error


class Inline:
    """
    A ThreadPoolExecutor, and its class, without threads.
    """

    def __init__(self, *, lazy: bool) -> None:
        self._lazy = lazy

    def __call__(self, *_arguments: object) -> Self:
        return self

    def submit(self, work: Callable[..., object], *arguments: object) -> Later:
        later = Later(lambda: work(*arguments))
        if not self._lazy:
            later.work()
        return later

    def map(
        self, work: Callable[..., object], *items: Iterable[object]
    ) -> Iterator[object]:
        # Eager: also those behind one that fails, as other threads do them.
        laters = [self.submit(work, *each) for each in zip(*items, strict=True)]
        return (later.result() for later in laters)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None: ...


EAGER, LAZY = Inline(lazy=False), Inline(lazy=True)
