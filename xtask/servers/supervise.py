"""Runs one server for as long as this program's standard input stays open.

    supervise.py LOG DIRECTORY PROGRAM [ARG...]

The pipe on the standard input is the lifeline: however the task that holds its other end dies, the kernel
closes it, and the server is stopped and DIRECTORY removed. The server has a session of its own, so that an
interrupt at the terminal reaches it only through here.
"""

import os
import select
import shutil
import signal
import subprocess
import sys

STOP_LIMIT_S = 5
LAST_LINES = 20


def main():
    log, directory, command = sys.argv[1], sys.argv[2], sys.argv[3:]
    for ending in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    server = None
    try:
        with open(log, "ab") as output:
            server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        while server.poll() is None:
            readable, _, _ = select.select([0], [], [], 0.2)
            if readable and not os.read(0, 4096):
                return 0
        with open(log, "rb") as output:
            lines = output.read()[-65536:].decode(errors="replace").splitlines()[-LAST_LINES:]
        print(*lines, f"{command[0]}: exited with status {server.returncode}", sep="\n", file=sys.stderr, flush=True)
        return 1
    finally:
        if server is not None:
            stop(server)
        shutil.rmtree(directory, ignore_errors=True)


def stop(server):
    for step in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, step)
            server.wait(STOP_LIMIT_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


sys.exit(main())
