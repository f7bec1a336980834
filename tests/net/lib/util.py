# SPDX-License-Identifier: GPL-2.0-or-later
"""Small things every net test uses: waiting, running, knobs from the environment."""
import contextlib
import json
import os
import select
import shlex
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILD = os.path.abspath(os.environ.get("ESPWIRE_BUILD", os.path.join(ROOT, "build")))
SLOW = float(os.environ.get("ESPWIRE_TEST_SLOW", 1))  # an emulated machine: waits may take that many times longer
FULL = os.environ.get("ESPWIRE_TEST_FULL", "") not in ("", "0")


def tool(name):
    """A program of ours: the daemons in build/, the helpers in build/net/."""
    for d in (BUILD, os.path.join(BUILD, "net")):
        path = os.path.join(d, name)
        if os.access(path, os.X_OK):
            return path
    return os.path.join(BUILD, name)


def scaled(default, full, env):
    """A count: env wins, then the full figure when ESPWIRE_TEST_FULL is set, then the default."""
    return int(os.environ.get(env, full if FULL else default))


@contextlib.contextmanager
def first_in_line():
    """What a machine does besides is not what a test of milliseconds is about: this process and its children go before it."""
    def autogroup(nice):  # where there are some that take a value, nice values count within each alone
        with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as f:
            f.write(str(nice))

    had = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, -15)
    autogroup(-15)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, had)
        autogroup(0)


class Timeout(AssertionError):
    pass


def wait_until(cond, timeout, what, poll=0.01):
    """Poll cond until it is true; its value is returned. The only way tests wait."""
    end = time.monotonic() + timeout * SLOW
    while True:
        value = cond()
        if value:
            return value
        if time.monotonic() >= end:
            detail = what() if callable(what) else what
            raise Timeout(f"not within {timeout:g} s: {detail}")
        time.sleep(poll)


def stays(cond, seconds, what, poll=0.02):
    """The opposite of waiting: cond must hold all the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert cond(), f"did not stay true: {what() if callable(what) else what}"
        time.sleep(poll)


class Failed(AssertionError):
    def __init__(self, argv, proc):
        super().__init__(f"{shlex.join(argv)}: exit {proc.returncode}\n{proc.stdout}{proc.stderr}")
        self.proc = proc


def sh(argv, check=True, timeout=60, input=None, text=True, env=None):
    """Run a program to its end. argv is a list, or a string that is split as a shell would."""
    argv = shlex.split(argv) if isinstance(argv, str) else [str(a) for a in argv]
    proc = subprocess.run(argv, capture_output=True, text=text, timeout=timeout, input=input, env=env)
    if check and proc.returncode:
        raise Failed(argv, proc)
    return proc


class Helper:
    """A helper program that takes a command a line and answers each with one JSON object a line."""

    def __init__(self, name, *args):
        self.name, self.buf = name, b""
        self.proc = subprocess.Popen([tool(name), *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def ask(self, line, timeout=30):
        self.proc.stdin.write(line.encode() + b"\n")
        while b"\n" not in self.buf:
            ready, _, _ = select.select([self.proc.stdout], [], [], timeout)
            data = os.read(self.proc.stdout.fileno(), 1 << 16) if ready else b""
            if not data:
                raise AssertionError(f"{self.name} did not answer: {line}")
            self.buf += data
        text, self.buf = self.buf.split(b"\n", 1)
        answer = json.loads(text)
        assert answer.get("ok", True), f"{self.name} refused: {line}"
        return answer

    def close(self):
        self.proc.stdin.close()
        self.proc.wait(timeout=10)
        self.proc.stdout.close()
