"""The one thread that writes: everything queued goes into one transaction, one fsync.

No timer forms the groups: while one is being committed, the next queues up. So the latency without
load is one fsync, and throughput grows with the load. A request crosses threads twice; all requests
of a group share the way back.
"""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from eventstore.embedded.protocol.errors import RpcError, unavailable
from eventstore.embedded.storage.event import Event
from eventstore.embedded.storage.operations import Operation
from eventstore.embedded.storage.preallocation import preallocate
from eventstore.embedded.storage.schema import BUSY_MS, connect
from eventstore.embedded.storage.stream_names import StreamNames
from eventstore.embedded.storage.write_transaction import WriteTransaction

log = logging.getLogger(__name__)

_FAILURES = (
    sqlite3.Error, OSError, MemoryError, ValueError, TypeError, LookupError, AttributeError,
    ArithmeticError, RuntimeError, AssertionError,
)  # fmt: skip
"""Disk failures and programming errors of any kind: a dead writer would block all callers."""
_GROUP_LIMIT = 2_000
"""The most operations in a transaction, which bounds the time until the first is answered."""
_QUEUE_BYTES = 512 * 1024 * 1024
_CHECKPOINT_BYTES = 16 * 1024 * 1024
_WAL_BYTES = _CHECKPOINT_BYTES * 3 // 2
"""The initial size of the write-ahead log: the data until a checkpoint, and during one."""
_RESTART_MS = 50
_EVENT_OVERHEAD = 500
"""Bytes of the write-ahead log for each event besides its own: index entries, parts of pages."""
_COMMIT_OVERHEAD = 11_000
"""Bytes of the write-ahead log for each commit, whatever its size: some three whole pages."""


@dataclass(eq=False, slots=True)
class _Job:
    operation: Operation
    future: "asyncio.Future[object]"
    size: int
    result: object = None
    error: BaseException | None = None


class Writer:
    """Owns the writing connection and the transaction."""

    def __init__(
        self,
        database: Path,
        names: StreamNames,
        loop: asyncio.AbstractEventLoop,
        publish: Callable[[list[Event]], None],
        give_up: Callable[[str], None],
    ) -> None:
        """`give_up` is called on the loop, with the reason, when writing has failed for good."""
        self._database = database
        self._db = connect(database, writer=True)
        self._transaction = WriteTransaction(self._db, names)
        self._loop = loop
        self._publish = publish
        self._give_up = give_up
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._queued = 0
        self._broken: str | None = None
        self._failing: str | None = None
        self._stopping = False
        self._unchecked = 0
        self._checkpointing = False
        self._checkpointed = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._checkpointer: threading.Thread | None = None

    def start(self) -> None:
        """Begin to accept operations."""
        self._thread.start()

    def submit(self, operation: Operation, size: int = 0) -> "asyncio.Future[object]":
        """Queue an operation; the future holds its result once the group is on disk.

        Cancelling the future does not undo the write. Raises ``UNAVAILABLE`` if more than half a
        gigabyte waits, or if writing has failed for good.
        """
        if self._broken is not None:
            raise unavailable(self._broken)
        if self._stopping or self._queued > _QUEUE_BYTES:
            raise unavailable("Server Is Too Busy")
        self._queued += size
        job = _Job(operation, self._loop.create_future(), size)
        self._queue.put(job)
        return job.future

    async def stop(self) -> None:
        """Commit and answer all queued operations, then close the file."""
        self._stopping = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        if self._checkpointer is not None:
            await asyncio.to_thread(self._checkpointer.join)
        if self._broken is None:
            try:
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:  # on a full disk, everything stays in the WAL
                log.warning("wal checkpoint failed", extra={"error": str(error)})
        self._db.close()

    def _run(self) -> None:
        preallocate(self._database.with_name(f"{self._database.name}-wal"), _WAL_BYTES)
        running = True
        while running:
            job = self._queue.get()
            jobs: list[_Job] = []
            while True:
                if job is None:
                    running = False
                    break
                jobs.append(job)
                if len(jobs) >= _GROUP_LIMIT:
                    break
                try:
                    job = self._queue.get_nowait()
                except Empty:
                    break
            if jobs:
                events = self._commit(jobs)
                self._loop.call_soon_threadsafe(self._finish, jobs, events)
                self._keep_wal_short(events)

    def _commit(self, jobs: list[_Job]) -> list[Event]:
        """Commit all in one transaction; on failure all fail, and memory is reset to the disk."""
        transaction = self._transaction
        if self._broken is not None:
            self._fail(jobs, unavailable(self._broken))
            return []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            transaction.begin()
            for job in jobs:
                try:
                    job.result = job.operation.apply(transaction)
                except RpcError as error:
                    job.error = error
            transaction.finish()
            self._db.execute("COMMIT")
        except _FAILURES as error:
            self._note_failure(error)
            self._fail(jobs, unavailable(f"The write failed: {_reason(error)}"))
            self._recover(error)
            return []
        if self._failing is not None:
            log.warning("commits succeed again")
            self._failing = None
        try:
            transaction.committed()
        except _FAILURES as error:
            # The group is on disk and answered so. Memory no longer matches, so writing ends.
            log.exception("following a commit failed")
            self._stop_writing(error)
        return transaction.staged

    def _note_failure(self, error: BaseException) -> None:
        """Log only the first of consecutive failures: a disk may be full for hours."""
        if (reason := _reason(error)) != self._failing:
            known = isinstance(error, sqlite3.OperationalError | OSError)
            said = {"error": reason, **({"sqlite": str(error)} if str(error) != reason else {})}
            log.error("commits fail", extra=said, exc_info=None if known else error)
            self._failing = reason

    def _stop_writing(self, error: BaseException) -> None:
        self._broken = f"Writing has stopped: {error}"
        self._loop.call_soon_threadsafe(self._give_up, self._broken)

    def _fail(self, jobs: list[_Job], error: RpcError) -> None:
        for job in jobs:
            job.error = error

    def _recover(self, error: BaseException) -> None:
        """Go back to what is on disk. After a failed sync the kernel may have lost dirty pages, so
        an I/O error ends writing until a restart; a full disk or a refused statement doesn't."""
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._transaction.reset()
        except sqlite3.Error as second:
            self._stop_writing(second)
        if _is_full(error):
            return
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            self._stop_writing(error)

    def _finish(self, jobs: list[_Job], events: list[Event]) -> None:
        """Publish a group, then answer it, so that callers read their own writes. On the loop."""
        if events:
            self._publish(events)
        for job in jobs:
            self._queued -= job.size
            future = job.future
            if future.done():
                continue
            if job.error is not None:
                future.set_exception(job.error)
                # The caller may be gone; an unawaited failure is not worth a log entry.
                future.exception()
            else:
                future.set_result(job.result)

    def _keep_wal_short(self, events: list[Event]) -> None:
        """Checkpoint the WAL now and then, and start it over: the longer it is, the more every read
        of a page costs. Its file keeps its size, so the written bytes are estimated.

        Another thread does the work. The writer itself copies the little that was committed
        meanwhile; without this last step, a steady load would let the WAL grow for ever.
        """
        self._unchecked += _COMMIT_OVERHEAD
        self._unchecked += sum(len(event.resp) + _EVENT_OVERHEAD for event in events)
        if self._checkpointing:
            return
        if self._checkpointed:
            self._checkpointed = False
            try:
                # It waits for readers, and all writers wait for it: a backup may take long.
                self._db.execute(f"PRAGMA busy_timeout={_RESTART_MS}")
                self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
            except sqlite3.Error as error:
                log.warning("wal checkpoint failed", extra={"error": str(error)})
            finally:
                self._db.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        elif self._unchecked >= _CHECKPOINT_BYTES:
            self._unchecked = 0
            self._checkpointing = True
            self._checkpointer = threading.Thread(target=self._checkpoint, daemon=True)
            self._checkpointer.start()

    def _checkpoint(self) -> None:
        try:
            db = connect(self._database, writer=True)
            try:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            finally:
                db.close()
        except sqlite3.Error as error:
            log.warning("wal checkpoint failed", extra={"error": str(error)})
        finally:
            self._checkpointed = True
            self._checkpointing = False


def _is_full(error: BaseException) -> bool:
    """Return whether the disk is full; if only the WAL's index lacks room, it is an I/O error."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)


def _reason(error: BaseException) -> str:
    return "database or disk is full" if _is_full(error) else str(error)
