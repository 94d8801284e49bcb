"""File system events as a wake-up call: they are hints, the listing is the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from heygemd.share import nofollow


class _Wake(FileSystemEventHandler):
    """Calls ``wake`` and does nothing else: one exception in a handler ends watchdog's thread for good."""

    #: Our own scans open folders and read files; without this they would wake the loop that made them.
    _READING = frozenset({"opened", "closed_no_write"})

    def __init__(self, wake: Callable[[], object]) -> None:
        super().__init__()
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in self._READING:
            self._wake()


class Watcher:
    """Calls ``wake`` (from a thread of watchdog's) when something changes below some folders, soon and
    perhaps often.

    Only a hint, and only for folders that are not ``blind``; the loop scans on its own clock all the same.
    ``wake`` must not raise and should only set a flag.
    """

    def __init__(self, folders: Iterable[Path], wake: Callable[[], object], trusted: Iterable[str] = ()) -> None:
        """``trusted``: folders below which no link is followed (``handles``)."""
        self._folders, self._trusted = tuple(folders), tuple(trusted)
        self._handler = _Wake(wake)
        self._observer: BaseObserver | None = None

    def start(self) -> str | None:
        """Begins; returns why it cannot (inotify's limits, say) as a sentence, in which case polling must
        do.
        """
        self.stop()
        observer = Observer()
        try:
            for folder in self._folders:
                with nofollow.folder(str(folder), read=True, trusted=self._trusted):
                    pass  # no link is in the way: watchdog would list what is behind it
                observer.schedule(self._handler, str(folder), recursive=True)
            observer.start()
        except OSError as error:
            observer.unschedule_all()
            return (
                f"changes cannot be watched ({error.strerror or error}); the inbox is polled instead. If the inotify "
                "limit was reached, raise fs.inotify.max_user_watches with sysctl"
            )
        self._observer = observer
        return None

    def alive(self) -> bool:
        """Whether every thread that should deliver events is there.  ``True`` proves little; rescan
        anyway.
        """
        if self._observer is None or not self._observer.is_alive():
            return False
        return all(emitter.is_alive() for emitter in self._observer.emitters)

    def stop(self) -> None:
        """Ends the threads; may be called at any time and more than once."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join(timeout=5)
