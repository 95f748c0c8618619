"""
Progress bars on a terminal: one for each account that has something to retrieve.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from popfetchd.values import AccountName


class Bars:
    """
    The bars of one `fetch`, drawn while it runs.
    """

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[messages]}"),
            console=Console(stderr=True),
            transient=True,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def reading(self, account: AccountName | None = None) -> Reading:
        """
        Return the watch that draws how an archive is read.
        """
        return Reading(self._progress, account or "archives")

    def watch(self, account: AccountName) -> Bar:
        """
        Return the watch that draws *account*'s bar, once there is something to draw.
        """
        return Bar(self._progress, account)


class Bar:
    """
    One account's bar: octets received of those listed, messages archived.
    """

    def __init__(self, progress: Progress, account: AccountName) -> None:
        self._progress = progress
        self._account = account
        self._task: TaskID | None = None
        self._messages = 0
        self._archived = 0

    def listed(self, messages: int, octets: int) -> None:
        """
        A session begins to retrieve.
        """
        self._messages += messages
        if self._task is None:
            self._task = self._progress.add_task(
                self._account, total=0, messages=self._told()
            )
        total = self._progress.tasks[self._task].total or 0
        self._progress.update(self._task, total=total + octets, messages=self._told())

    def received(self, octets: int) -> None:
        """
        Octets have come.
        """
        if self._task is not None:
            self._progress.advance(self._task, octets)

    def archived(self, messages: int) -> None:
        """
        Messages are in the archive.
        """
        self._archived += messages
        if self._task is not None:
            self._progress.update(self._task, messages=self._told())

    def _told(self) -> str:
        return f"{self._archived}/{self._messages} archived"


class Reading:
    """
    The bar of an archive that is read: octets of those expected, messages.
    """

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress = progress
        self._expected = 0
        self._read = 0
        self._task = progress.add_task(what, total=None, messages="")

    def expected(self, messages: int, octets: int) -> None:
        """
        So many messages and octets are about to be read.
        """
        self._expected = messages
        self._progress.update(self._task, total=octets)

    def read(self, octets: int) -> None:
        """
        One message more has been read.
        """
        self._read += 1
        of = f"/{self._expected}" if self._expected else ""
        self._progress.update(
            self._task, advance=octets, messages=f"{self._read}{of} messages"
        )
