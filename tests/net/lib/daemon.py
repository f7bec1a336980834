# SPDX-License-Identifier: GPL-2.0-or-later
"""ipsecd in a namespace: start, ask, stop, and leave nothing behind."""
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess

from lib import carried
from lib import keys as keyfiles
from lib.topo import drop_netns, unique
from lib.util import tool, wait_until


class Daemon:
    """One instance. start() may be called again after stop() or kill(): the state stays."""

    json_verbs = ("sa list", "maps", "report")  # of ipsecctl's own making
    # what `ipsecctl --json` hands on as ipsecd says it: verb there -> verb of the protocol
    relayed = {"show": "show", "drops": "drops", "path list": "path-list", "show config": "config", "perf": "perf"}

    def __init__(self, ns, conf, workdir, name=None, via="nsenter", env=None, args=(), nth=0):
        """nth ipsecd of its test, see lib/carried.py"""
        self.ns, self.via, self.args, self.nth = ns, via, args, nth
        self.instance = name or f"t{unique()}"
        self.dir = os.path.join(workdir, self.instance)
        os.makedirs(self.dir, mode=0o700)
        self.conf_file = os.path.join(self.dir, "ipsecd.conf")
        self.log_file = os.path.join(self.dir, "log")
        self.pin_dir = f"/sys/fs/bpf/ipsec/{self.instance}"
        self.state_dir = f"/var/lib/ipsec/{self.instance}"
        self.run_dir = f"/run/ipsec/{self.instance}"
        self.backend = f"/run/netns/espwire-{self.instance}"
        self.key_files, self.proc, self.released = [], None, False
        self.ike = None  # the charon beside it (lib/charon.py)
        self.backends = set()  # who has carried its links, with the reason why not the kernel
        self.env = dict(os.environ, **(env or {}))
        self.write_conf(conf)

    def write_conf(self, text):
        with open(self.conf_file, "w") as f:
            f.write(carried.dressed(text, self.nth))

    # --- process ---

    def argv(self, *extra):
        return [os.environ.get("ESPWIRE_IPSECD") or tool("ipsecd"), "-i", self.instance, "-f", self.conf_file, *self.args, *extra]

    def start(self, wait=True, timeout=20, env=None):
        # the default route to the daemon: nsenter replaces itself, so proc.pid is ipsecd
        enter = ["ip", "netns", "exec", self.ns.name] if self.via == "ip" else ["nsenter", f"--net={self.ns.path}", "--"]
        log = os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.log_start = os.fstat(log).st_size
        self.proc = subprocess.Popen(enter + self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     env=dict(self.env, **(env or {})))
        os.close(log)
        self.ns.procs.append(self.proc)
        if wait:
            wait_until(lambda: self.ready() or self.proc.poll() is not None, timeout,
                       lambda: f"ipsecd ready\n{self.log()}")
            assert self.proc.poll() is None, f"ipsecd exited {self.proc.returncode}:\n{self.log()}"
            self.note_backends()
        return self

    def ready(self):
        return any(line.startswith("ipsecd: ready") for line in self.log_now().splitlines())

    def running(self):
        return self.proc is not None and self.proc.poll() is None

    def signal(self, sig):
        self.proc.send_signal(sig)

    def stop(self, timeout=10):
        """As systemd does."""
        if self.running():
            self.proc.send_signal(signal.SIGTERM)
            self.proc.wait(timeout=timeout)
        return self.proc.returncode if self.proc else None

    def kill(self):
        if self.running():
            self.proc.kill()
        if self.proc:  # the kernel takes ten seconds and more to forget 10,000 links' maps
            self.proc.wait(timeout=90)

    def pids(self):
        """Every live process of the instance: ipsecd and its guardian. Found by the instance's unique name."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            if self.instance.encode() in words and any(b"ipsecd" in w or b"espwire" in w or b"ipsec-" in w for w in words[:1]):
                found.append(int(pid))
        return found

    def guardians(self):
        return [p for p in self.pids() if not self.proc or p != self.proc.pid]

    # --- log ---

    def log_bytes(self):
        try:
            with open(self.log_file, "rb") as f:
                return f.read()
        except FileNotFoundError:
            return b""

    def log(self):
        return self.log_bytes().decode(errors="replace")

    def log_now(self):
        """Since the last start."""
        return self.log_bytes()[self.log_start:].decode(errors="replace")

    # --- ipsecctl ---

    def ctl(self, *words, check=True, json_out=True, timeout=30):
        """A string is cut at blanks, a list is not."""
        argv = [tool("ipsecctl"), "-i", self.instance] + (["--json"] if json_out else [])
        for w in words:
            argv += w.split() if isinstance(w, str) else w if isinstance(w, list) else [str(w)]
        return self.ns.run(argv, check=check, timeout=timeout)

    def ask(self, verb):
        """A relayed verb's answer as ipsecd gives it, or None: a process less than ctl(), and most questions are asked in a loop."""
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(5)
                s.connect(f"{self.run_dir}/ctl.sock")
                s.sendall(json.dumps({"schema": 1, "verb": self.relayed[verb], "args": {}}).encode() + b"\n")
                answer = bytearray()
                while not answer.endswith(b"\n"):
                    part = s.recv(1 << 18)
                    if not part:
                        return None
                    answer += part
        except OSError:
            return None
        return bytes(answer)

    def json(self, *words, check=True):
        """ipsecctl's answer; where nobody or an error answers, what ipsecctl makes of it."""
        answer = self.ask(words[0]) if len(words) == 1 and words[0] in self.relayed else None
        if answer:
            j = json.loads(answer)
            if j["ok"]:
                return j
        p = self.ctl(*words, check=check)
        try:
            return json.loads(p.stdout)
        except ValueError:
            assert not check, f"not JSON: {p.stdout}{p.stderr}"
            return None

    def show(self):
        return self.json("show")

    def link(self, name="ipsec1", check=True):
        j = self.json("show", check=check)
        for l in (j or {}).get("links", []):
            if l["name"] == name:
                return l
        assert not check, f"no link {name} in {j}"
        return None

    def note_backends(self):
        if carried.MODE and self.running():
            for l in (self.json("show", check=False) or {}).get("links", []):
                self.backends.add(f"{l['backend']}: {l['backend_why']}" if l["backend_why"] else l["backend"])

    def drop_reasons(self):
        """Every reason that is not 0 in its books, whatever link and direction."""
        j = self.json("drops", check=False) or {}
        books = [l[way] for l in j.get("links", []) for way in ("out", "in")] + [j.get("global", {}).get("drops", {})]
        return {reason for b in books for reason, n in b.items() if n}

    def is_up(self, name="ipsec1"):
        l = self.link(name, check=False)
        return bool(l) and l["state"] == "up"

    def oper(self, name="ipsec1"):
        """operstate of the device, in the workload namespace of the link (here: not `netns =`)."""
        return self.ns.operstate(name) or ("UP" if (self.link(name, check=False) or {}).get("netns") else None)

    def reason(self, name="ipsec1"):
        l = self.link(name, check=False)
        return l and l["reason"]

    def wait_up(self, *names, timeout=8):
        for n in names or ("ipsec1",):
            # the kernel uses the device's routes once operstate says so, a moment after the carrier
            wait_until(lambda: self.is_up(n) and self.oper(n) == "UP", timeout,
                       lambda: f"{n} up: {self.ctl('show', check=False).stdout}\n{self.log()[-3000:]}")
        return self

    # --- static keys ---

    def add_keys(self, path):
        """Key file in use: its bytes are hunted for, its durable state made."""
        self.key_files.append(path)

    def init_state(self, *paths, check=True):
        files = list(paths or self.key_files)
        for i in range(0, len(files), 50):
            p = self.ctl("static", "init", *files[i:i + 50], check=check, json_out=False)
        return p

    def keys(self):
        return [k for f in self.key_files for k in keyfiles.keys_in_file(f)] + (self.ike.keys() if self.ike else [])

    # --- end ---

    def release(self, check=True, timeout=60):
        self.released = True
        return self.ctl("release", "--yes", check=check, json_out=False, timeout=timeout)

    def remains(self):
        """What is still there of the instance, anywhere outside its namespace."""
        left = [p for p in (self.pin_dir, self.backend) if os.path.exists(p)]
        return left + [f"process {p}" for p in self.pids()]

    def destroy(self):
        """Take everything away, whatever state a failed test left. Never raises."""
        if os.environ.get("ESPWIRE_COVERAGE"):  # gcov's counts are written at exit
            try:
                self.stop(timeout=3)
            except subprocess.TimeoutExpired:
                pass
        self.kill()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        drop_netns(self.backend)
        for d in (self.pin_dir, self.state_dir, self.run_dir):
            shutil.rmtree(d, ignore_errors=True)


class Monitor:
    """ipsecctl monitor --json, and every event it has told."""

    def __init__(self, d):
        self.p = d.ns.popen([tool("ipsecctl"), "-i", d.instance, "-j", "monitor"], stdout=subprocess.PIPE, text=True)
        self.events = []
        os.set_blocking(self.p.stdout.fileno(), False)
        self.rest = ""

    def read(self):
        try:
            self.rest += self.p.stdout.read() or ""
        except TypeError:
            pass
        *lines, self.rest = self.rest.split("\n")
        self.events += [json.loads(line) for line in lines]
        return self.events

    def all(self, **want):
        return [e for e in self.read() if all(e.get(k) == v for k, v in want.items())]

    def saw(self, **want):
        return bool(self.all(**want))
