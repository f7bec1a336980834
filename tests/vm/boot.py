# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's kernels unpacked beside the tree, an initramfs of our own, and one qemu per kernel.

Nothing is installed: the packages are fetched by apt, unpacked, and booted under TCG. The guest's
root is the host's / over 9p, read-only, with a tmpfs laid over it; what it wants to keep goes to
/out, a second 9p mount that is writable.
"""
import glob
import gzip
import json
import lzma
import os
import shutil
import subprocess

# The names Debian gives its current kernels of those series. 6.12 is in bookworm-security and -backports.
KERNELS = {"6.1": "linux-image-amd64", "6.12": "linux-image-6.12-amd64"}
BOOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc p /proc; $b mount -t sysfs s /sys; $b mount -t devtmpfs d /dev
for m in $($b cat /mods/order); do $b insmod /mods/$m || echo "VM-PANIC insmod $m"; done
opts=trans=virtio,version=9p2000.L,msize=512000
$b mount -t 9p -o $opts,cache=loose,ro root /lower || echo "VM-PANIC no root"
$b mount -t tmpfs -o size=1G t /upper; $b mkdir /upper/u /upper/w
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/u,workdir=/upper/w o /mnt || echo "VM-PANIC no overlay"
for d in proc sys dev; do $b mount --move /$d /mnt/$d; done
for d in run var/lib/ipsec; do $b mkdir -p /mnt/$d; $b mount -t tmpfs t /mnt/$d; done
$b mkdir -p /mnt/out /mnt/dev/shm; $b mount -t 9p -o $opts,cache=none out /mnt/out || echo "VM-PANIC no /out"
$b rm -rf /mnt/lib/modules /mnt/usr/lib/modules; $b ln -s @MODULES@ /mnt/usr/lib/modules
[ -L /mnt/lib/modules ] || $b ln -s @MODULES@ /mnt/lib/modules
exec $b switch_root /mnt /bin/sh @START@
"""
START = """export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
mount -t bpf b /sys/fs/bpf; mount -t tmpfs t /dev/shm
ulimit -l unlimited; ip link set lo up; echo VM-BEGIN
/usr/bin/python3 @GUEST@ >/out/guest.log 2>&1; echo VM-END $?; sync
echo o >/proc/sysrq-trigger; sleep 30
"""
# What an emulator is slow at, a quarter of a guest's time in all: vectors, the state that goes with them, string instructions ("fast"
# ones go byte by byte), and pages cleared that nobody reads. What counts instructions does without: it measures Debian's kernel.
CPU = "max,-erms,-fsrm,-avx,-avx2,-xsave"
SPARE = "clearcpuid=rep_good init_on_alloc=0 transparent_hugepage=never apparmor=0 nokaslr nowatchdog cgroup_disable=memory psi=0"


class Unavailable(Exception):
    """This lane cannot run here; the text says why."""


def need(*programs):
    missing = [p for p in programs if not shutil.which(p, path=os.environ["PATH"] + ":/usr/sbin:/sbin")]
    if missing:
        raise Unavailable(f"no {', '.join(missing)} here: make deps installs what the VM lane needs")


class Kernel:
    """One unpacked kernel package under DIR."""

    def __init__(self, series, top):
        self.series = series
        self.dir = os.path.join(top, f"linux-{series}")
        self.deb_dir = os.path.join(top, "deb")

    def ready(self):
        try:
            with open(os.path.join(self.dir, "version")) as f:
                self.version = f.read().strip()
        except FileNotFoundError:
            return False
        self.image = os.path.join(self.dir, "boot", f"vmlinuz-{self.version}")
        self.modules = os.path.join(self.dir, "lib", "modules")
        return os.path.exists(self.image)

    def unpack(self, log):
        """Fetch and unpack unless that has been done. The version file comes last."""
        if self.ready():
            return self
        need("apt-get", "dpkg-deb", "depmod")
        package = self._package()
        log(f"{package}: fetching and unpacking into {os.path.relpath(self.dir)}")
        os.makedirs(self.deb_dir, exist_ok=True)
        self._run(["apt-get", "download", "-q", package], cwd=self.deb_dir)
        debs = glob.glob(os.path.join(self.deb_dir, f"{package}_*.deb"))
        shutil.rmtree(self.dir, ignore_errors=True)
        self._run(["dpkg-deb", "-x", max(debs, key=os.path.getmtime), self.dir])
        found = glob.glob(os.path.join(self.dir, "lib/modules/*"))
        if not found and glob.glob(os.path.join(self.dir, "usr/lib/modules/*")):
            os.makedirs(os.path.join(self.dir, "lib"), exist_ok=True)
            os.rename(os.path.join(self.dir, "usr/lib/modules"), os.path.join(self.dir, "lib/modules"))
            found = glob.glob(os.path.join(self.dir, "lib/modules/*"))
        version = os.path.basename(found[0])
        self._run(["depmod", "-b", self.dir, version])
        with open(os.path.join(self.dir, "version"), "w") as f:
            f.write(version + "\n")
        for d in debs:
            os.unlink(d)
        if not self.ready():
            raise Unavailable(f"{package} holds no kernel image")
        return self

    def _package(self):
        """The meta package depends on the real one."""
        meta = KERNELS[self.series]
        out = subprocess.run(["apt-cache", "depends", "--important", meta], capture_output=True, text=True).stdout
        for line in out.splitlines():
            if line.strip().startswith("Depends: linux-image-"):
                return line.split()[-1]
        raise Unavailable(f"apt knows no package {meta} (Linux {self.series})")

    def _run(self, argv, **kw):
        env = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
        p = subprocess.run(argv, capture_output=True, text=True, timeout=300, env=env, **kw)
        if p.returncode:
            raise Unavailable(f"{' '.join(argv[:3])}: {p.stderr.strip().splitlines()[-1:] or p.returncode}")

    def module_chain(self):
        """Paths of the boot modules, dependencies first, as depmod found them."""
        base = os.path.join(self.modules, self.version)
        deps, paths = {}, {}
        with open(os.path.join(base, "modules.dep")) as f:
            for line in f:
                path, _, rest = line.partition(":")
                deps[path] = rest.split()
                paths[os.path.basename(path).split(".ko")[0].replace("-", "_")] = path
        chain = []

        def add(path):
            for d in reversed(deps[path]):
                add(d)
            if path not in chain:
                chain.append(path)

        for name in BOOT_MODULES:
            if name in paths:  # else built in
                add(paths[name])
        return [os.path.join(base, p) for p in chain]


def initramfs(kernel, work, guest):
    need("cpio", "busybox")
    ir = os.path.join(work, "initramfs")
    shutil.rmtree(ir, ignore_errors=True)
    for d in ("bin", "dev", "proc", "sys", "lower", "upper", "mnt", "mods"):
        os.makedirs(os.path.join(ir, d))
    shutil.copy(shutil.which("busybox"), os.path.join(ir, "bin/busybox"))
    with open(os.path.join(ir, "mods/order"), "w") as order:
        for path in kernel.module_chain():
            name = os.path.basename(path)[:os.path.basename(path).index(".ko")] + ".ko"
            with (lzma.open if path.endswith(".xz") else open)(path, "rb") as f, open(os.path.join(ir, "mods", name), "wb") as out:
                shutil.copyfileobj(f, out)
            order.write(name + "\n")
    with open(os.path.join(work, "start"), "w") as f:
        f.write(START.replace("@GUEST@", guest))
    with open(os.path.join(ir, "init"), "w") as f:
        f.write(INIT.replace("@MODULES@", kernel.modules).replace("@START@", os.path.join(work, "start")))
    os.chmod(os.path.join(ir, "init"), 0o755)
    names = subprocess.run(["find", "."], cwd=ir, capture_output=True, check=True).stdout
    cpio = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=ir, input=names, capture_output=True, check=True)
    path = os.path.join(work, "initramfs.gz")
    with gzip.open(path, "wb", compresslevel=1) as f:
        f.write(cpio.stdout)
    return path


class Guest:
    """A running guest. Its results grow in OUT/results; close() ends qemu by its pid.

    program runs inside. counted: one CPU whose clock is the count of its instructions, so that nanoseconds in which
    it did not idle are instructions, the same on every machine and under any load.
    """

    def __init__(self, kernel, work, job, cpus=2, memory="3G", program=None, counted=False):
        need("qemu-system-x86_64")
        shutil.rmtree(work, ignore_errors=True)
        self.out = os.path.join(work, "out")
        os.makedirs(self.out)
        with open(os.path.join(self.out, "job.json"), "w") as f:
            json.dump(job, f)
        ir = initramfs(kernel, work, program or os.path.join(os.path.dirname(os.path.abspath(__file__)), "guest.py"))
        self.console = os.path.join(work, "console")
        # One host thread for all guest CPUs: with one each, this qemu runs code that the guest's kernel has just
        # patched (static keys) and the guest dies of a stray int3. Two guests at a time use two cores.
        how = ["-icount", "shift=0", "-smp", "1", "-cpu", "max,+invtsc"] if counted else ["-smp", str(cpus), "-cpu", CPU]
        clock = "tsc=reliable clocksource=tsc" if counted else "tsc=unstable"
        argv = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=single", *how, "-m", memory, "-display", "none", "-no-reboot", "-nodefaults", "-serial", f"file:{self.console}",
                "-kernel", kernel.image, "-initrd", ir,
                "-append", f"console=ttyS0 panic=-1 quiet mitigations=off {clock} random.trust_cpu=on {'' if counted else SPARE}",
                "-virtfs", "local,path=/,mount_tag=root,security_model=none,multidevs=remap,readonly=on",
                "-virtfs", f"local,path={self.out},mount_tag=out,security_model=none"]
        self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def running(self):
        return self.proc.poll() is None

    def console_text(self):
        try:
            with open(self.console, errors="replace") as f:
                return f.read().replace("\r", "")
        except FileNotFoundError:
            return ""

    def close(self):
        if self.running():
            self.proc.kill()
        self.proc.wait(timeout=30)
        errs = self.proc.stderr.read()
        self.proc.stderr.close()
        return errs
