"""Numbered transactions in a SQLite database.

    sqlite.py write DATABASE JOURNAL_MODE SYNCHRONOUS        commits 1, 2, 3, ... and says each number
    sqlite.py check DATABASE JOURNAL_MODE SYNCHRONOUS LAST   1 to LAST are there, whole, and the file is sound
"""

import hashlib
import sqlite3
import sys

KEPT = 40  # rows; older ones are deleted, so that pages are used again


def content(number):
    seed = hashlib.sha256(str(number).encode()).digest()
    return (seed * 1024)[: number * 97 % 9000]


def connect(path, journal, synchronous):
    database = sqlite3.connect(path, isolation_level=None)
    found = database.execute(f"PRAGMA journal_mode={journal}").fetchone()[0]
    if found.upper() != journal:
        sys.exit(f"the journal mode is {found}, not {journal}")
    database.execute(f"PRAGMA synchronous={synchronous}")
    database.execute("PRAGMA wal_autocheckpoint=20")  # often, so that it is killed in checkpoints, too
    return database


def write(database):
    database.execute("CREATE TABLE IF NOT EXISTS entries (number INTEGER PRIMARY KEY, content BLOB)")
    database.execute("CREATE TABLE IF NOT EXISTS total (one INTEGER PRIMARY KEY, last INTEGER, sum INTEGER)")
    database.execute("INSERT OR IGNORE INTO total VALUES (1, 0, 0)")
    while True:
        database.execute("BEGIN IMMEDIATE")
        number = database.execute("SELECT last FROM total").fetchone()[0] + 1
        database.execute("INSERT INTO entries VALUES (?, ?)", (number, content(number)))
        database.execute("DELETE FROM entries WHERE number <= ?", (number - KEPT,))
        database.execute("UPDATE total SET last = ?, sum = sum + ?", (number, number))
        database.execute("COMMIT")
        print(number, flush=True)


def check(database, reported):
    integrity = database.execute("PRAGMA integrity_check").fetchall()
    if integrity != [("ok",)]:
        sys.exit(f"integrity_check: {integrity}")
    last, total = database.execute("SELECT last, sum FROM total").fetchone()
    # One more may have been committed that the writer had no time to say.
    if not reported <= last <= reported + 1:
        sys.exit(f"{reported} was reported as committed, and the database ends with {last}")
    if total != last * (last + 1) // 2:
        sys.exit(f"half a transaction: the sum to {last} is {total}")
    rows = database.execute("SELECT number, content FROM entries ORDER BY number").fetchall()
    if [number for number, _ in rows] != list(range(max(1, last - KEPT + 1), last + 1)):
        sys.exit(f"after {last} there are {[number for number, _ in rows]}")
    for number, found in rows:
        if found != content(number):
            sys.exit(f"entry {number} has another content")
    print(f"{last} transactions, {reported} of them reported, {len(rows)} entries kept")


def main():
    what, path, journal, synchronous = sys.argv[1:5]
    database = connect(path, journal, synchronous)
    if what == "write":
        write(database)
    else:
        check(database, int(sys.argv[5]))


main()
