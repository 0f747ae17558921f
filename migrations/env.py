"""Alembic's entry: one SQLite file, each revision in one transaction."""

from __future__ import annotations

import sqlite3

from alembic import context
from sqlalchemy import create_engine, event
from sqlalchemy.pool import NullPool

from metta_jobs.store.schema import metadata


def _own_transactions(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # Python's driver would commit before DDL otherwise
    connection.execute("PRAGMA journal_mode = WAL")


engine = create_engine(f"sqlite:///{context.config.attributes['path']}", poolclass=NullPool)
event.listen(engine, "connect", _own_transactions)
event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
