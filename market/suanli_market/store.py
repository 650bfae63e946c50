"""The store: SQLite in WAL mode, one writer at a time, short units of work.

`write` is a transaction that is on the disk (fsync) when it returns; `read` sees a consistent snapshot. Nothing inside
either may touch the network.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import Engine, create_engine, event, insert
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session, SQLModel

from suanli_protocol.errors import ConfigurationError, SuanliError

if TYPE_CHECKING:
    from alembic.config import Config

FILE = "market.sqlite"
LOCK = "market.lock"
BUSY_TIMEOUT_MS = 10_000
TOPICS = "topics"  # in a session's info: what its commit tells `on_commit`
FOLLOWERS = "followers"  # in a session's info: see `follow`


def _nobody(_: set[str]) -> None:
    pass


class StorageError(SuanliError):
    """The disk is full or the database cannot be written; nothing was accepted."""

    code, title, http_status, retryable = "storage", "The market cannot store this now", 507, True


class Store:
    """Units of work over one database file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._held: int | None = None  # the descriptor of the locked file
        self.engine = _engine(self.path)
        self._writer = threading.Lock()
        self.on_commit: Callable[[set[str]], None] = _nobody

    @classmethod
    def existing(cls, folder: Path) -> Self:
        """The store of a folder that has one; ConfigurationError otherwise."""
        if not (folder / FILE).is_file():
            raise ConfigurationError(
                f"{folder} holds no {FILE}", hint="name the folder that `serve` was given as --data"
            )
        return cls(folder)

    def hold(self) -> None:
        """Makes this the one process that serves the folder, until it closes or dies; ConfigurationError if one does.

        Two would share one log, one key and its nonces.
        """
        held = os.open(self.path.with_name(LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(held)
            raise ConfigurationError(
                f"another process serves or migrates {self.path.parent}: {error.strerror}",
                hint="stop it first, or name another --data folder",
            ) from None
        self._held = held

    def revision(self) -> str:
        """The revision of the tables, "" before the first; ConfigurationError if the file is no database."""
        from alembic.migration import MigrationContext

        try:
            with self.engine.connect() as connection:
                return MigrationContext.configure(connection).get_current_revision() or ""
        except DatabaseError as error:
            raise ConfigurationError(
                f"{self.path} is no database of a market: {error.orig}", hint="see --data"
            ) from None

    def require_readable(self) -> str:
        """The revision, if it is this version's; ConfigurationError says what to do with an older or newer one."""
        found, newest = self.revision(), newest_revision()
        if found == newest:
            return found
        if found in known_revisions():
            raise ConfigurationError(
                f"{self.path} is at revision {found or 'none'}, this version's is {newest}",
                hint="stop the market, back its --data folder up, and run `suanli-market migrate`",
            )
        raise ConfigurationError(
            f"{self.path} is at revision {found}, which this version does not know",
            hint="install the version that wrote it, or a newer one",
        )

    def migrate(self, revision: str = "head") -> None:
        """Brings the tables to this version's shape; ConfigurationError if the file is of a newer version or broken."""
        from alembic import command
        from alembic.util import CommandError

        config = _alembic()
        try:
            with self.engine.connect() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, revision)
        except (CommandError, DatabaseError) as error:
            raise ConfigurationError(
                f"the database {self.path} cannot be used: {error}",
                hint="it was written by a newer version, or is no database of a market: name another --data folder",
            ) from None

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that commits at the end of the block and rolls back on any error. One at a time."""
        with self._writer, Session(self.engine, expire_on_commit=False) as session:
            try:
                session.connection().exec_driver_sql("BEGIN IMMEDIATE")
                yield session
                session.commit()
                topics = session.info.pop(TOPICS, None)
                for follower in session.info.pop(FOLLOWERS, ()):
                    follower()
            except OperationalError as error:
                session.rollback()
                raise StorageError(f"the database refused: {error.orig}", hint="free some disk space") from error
        if topics:
            self.on_commit(topics)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A read-only snapshot."""
        with Session(self.engine, expire_on_commit=False) as session:
            session.connection().exec_driver_sql("BEGIN")
            yield session

    def close(self) -> None:
        """Closes all connections, and lets the folder go."""
        self.engine.dispose()
        if self._held is not None:
            os.close(self._held)
            self._held = None


def follow(session: Session, change: Callable[[], None]) -> None:
    """Makes a change of memory together with the session's commit: no other write, nor who reads it, comes between."""
    session.info.setdefault(FOLLOWERS, []).append(change)


def known_revisions() -> frozenset[str]:
    """The revisions that this version can migrate from, and "" for an empty file."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_alembic())
    return frozenset(script.revision for script in scripts.walk_revisions()) | {""}


def newest_revision() -> str:
    """The revision of this version's tables."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_alembic()).get_current_head() or ""


def _alembic() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def insert_rows(session: Session, table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Adds many rows of whole column values at once, past the ORM's objects."""
    session.connection().execute(insert(SQLModel.metadata.tables[table]), list(rows))


def _engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        pool_size=32,
        max_overflow=32,
        connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False, "isolation_level": None},
    )

    def configure(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # an acknowledgement promises that the paper is on the disk
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    event.listen(engine, "connect", configure)
    return engine
