"""Processes that die: forked from one that has imported everything, and killed at a moment of choice."""

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Child:
    """
    A function in a forked process that leads a process group of its own. It says in `log` what it would have said on a
    terminal.

    Args:
        function: What is run; its result is the exit code, 0 where it is none.
        log: A file.
        folder: With `operation`: the process kills its group just before the operation of that number, counted from 1,
            on a file whose path begins like this one: opened for writing, renamed, deleted, a folder made.
        delay: Seconds from that operation to the end: a file that was opened is then half written, perhaps.
        note: A file for JSON, written when the function has ended: how many of those operations there were
            ("operations"), and which modules were imported ("modules"), so that the next process need not.
    """

    def __init__(self, function, log, folder=None, operation=None, delay=0.0, note=None):
        sys.stdout.flush()
        sys.stderr.flush()
        self.began = time.perf_counter()
        self.pid = os.fork()
        if self.pid == 0:
            code = 70
            try:
                os.setpgid(0, 0)
                with open(log, "a") as file:
                    os.dup2(file.fileno(), 1)
                    os.dup2(file.fileno(), 2)
                counter = None if folder is None else Counter(str(folder), operation, delay)
                code = function() or 0
                if counter is not None and note is not None:
                    found = {"operations": counter.count, "modules": list(sys.modules)}
                    Path(note).write_text(json.dumps(found))
            except SystemExit as exit_:
                if exit_.code not in (None, 0):
                    print(exit_.code, file=sys.stderr)  # noqa: T201
                code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        with contextlib.suppress(OSError):  # both do it: neither knows which comes first
            os.setpgid(self.pid, self.pid)
        self.code = None

    def ended(self):
        """Whether it has; `code` is then its exit code, negative for a signal."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
                with contextlib.suppress(OSError):  # those that it started
                    os.killpg(self.pid, signal.SIGKILL)
        return self.code is not None

    def kill(self):
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self, seconds=120.0):
        """The exit code. A process that takes longer is killed, and a TimeoutError raised."""
        end = time.perf_counter() + seconds
        while not self.ended():
            if time.perf_counter() > end:
                self.kill()
                raise TimeoutError(f"process {self.pid} took longer than {seconds:g} seconds")
            time.sleep(0.001)
        return self.code


class Counter:
    """Counts what Python does to files below a path, and kills the process group at a number; see `Child`."""

    def __init__(self, folder, operation=None, delay=0.0):
        self.folder, self.operation, self.delay, self.count = folder, operation, delay, 0
        sys.addaudithook(self.see)

    def see(self, event, arguments):
        if event == "open":
            if not (isinstance(arguments[2], int) and arguments[2] & WRITING):
                return
        elif event not in CHANGES:
            return
        # shutil.rmtree names what it deletes from within the folder.
        within = event in ("os.remove", "os.rmdir") and arguments[-1] not in (-1, None)
        paths = [str(path) for path in arguments[:2] if isinstance(path, (str, Path))]
        if not within and not any(path.startswith(self.folder) for path in paths):
            return
        self.count += 1
        # Another process waits, since this one, which may be one of several, goes on.
        if self.count == self.operation and (not self.delay or os.fork() == 0):
            time.sleep(self.delay)
            os.killpg(0, signal.SIGKILL)
