# SPDX-License-Identifier: GPL-2.0-or-later
"""netdevsim for a kernel of the lane: Debian builds it for none, so it is made from Debian's own source of that very version.

It is a device without a wire that takes IPsec states as a NIC with crypto offload does, lists them in debugfs, and encrypts
nothing. What is built lies beside the kernel's modules, for `modprobe netdevsim` to find.
"""
import contextlib
import glob
import os
import re
import shutil
import subprocess

from boot import Unavailable, need

MODULE = "drivers/net/netdevsim"


def module(kernel):
    return os.path.join(kernel.modules, kernel.version, "extra", "netdevsim.ko")


def build(kernel, log):
    """Unless that has been done. Raises Unavailable with the reason."""
    if os.path.exists(module(kernel)):
        return
    need("apt-get", "dpkg-deb", "depmod", "make", "gcc", "tar", "xz")
    work = os.path.abspath(f"{kernel.dir}-build")
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    log(f"netdevsim for {kernel.version}: building in {os.path.relpath(work)}")
    try:
        for package in headers(kernel):
            unpack(package, work, work)
        source(kernel, work)
        compile_in(kernel, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def headers(kernel):
    """The package for this kernel, and what it takes of the same source."""
    first = f"linux-headers-{kernel.version}"
    out = subprocess.run(["apt-cache", "depends", "--important", first], capture_output=True, text=True).stdout
    more = re.findall(r"Depends: (linux-(?:headers|kbuild)-\S+)", out)
    if not more:
        raise Unavailable(f"apt knows no package {first} that needs others")
    return [first, *more]


def run(argv, why, **kw):
    p = subprocess.run(argv, capture_output=True, text=True, timeout=900, **kw)
    if p.returncode:
        lines = p.stderr.strip().splitlines() or [f"exit status {p.returncode}"]
        raise Unavailable(f"netdevsim: {why}: {next((line for line in lines if re.search('rror: |not found', line)), lines[-1])}")
    return p.stdout


def fetch(package, where):
    run(["apt-get", "download", "-q", package], f"apt-get download {package}", cwd=where)
    return max(glob.glob(os.path.join(where, f"{package.split('=')[0]}_*.deb")), key=os.path.getmtime)


def unpack(package, where, into):
    deb = fetch(package, where)
    run(["dpkg-deb", "-x", deb, into], f"dpkg-deb {package}")
    os.unlink(deb)


def version_of(kernel):
    """Of the package the kernel came from: source of another one would be another driver."""
    image = f"linux-image-{kernel.version}"
    shown = run(["apt-cache", "show", "--no-all-versions", image], f"apt-cache show {image}")
    return re.search(r"^Version: (\S+)", shown, re.M)[1]


def source(kernel, work):
    """The driver's directory alone: the whole is a gigabyte and more."""
    package = f"linux-source-{kernel.series}={version_of(kernel)}"
    deb = fetch(package, work)
    tar = f"linux-source-{kernel.series}.tar.xz"
    run(["bash", "-c", f"set -o pipefail; dpkg-deb --fsys-tarfile '{deb}' | tar -xO ./usr/src/{tar} | "
         f"tar -xJ --strip-components=1 -C '{work}' linux-source-{kernel.series}/{MODULE}"], package)
    os.unlink(deb)


def compile_in(kernel, work):
    tree = os.path.join(work, "usr/src", f"linux-headers-{kernel.version}")
    for name in glob.glob(f"{work}/usr/src/linux-headers-*/Makefile") + glob.glob(f"{tree}/.kernelvariables"):
        with open(name) as f:
            text = f.read()
        with open(name, "w") as f:
            f.write(text.replace("/usr/src/", f"{work}/usr/src/").replace("/usr/lib/linux-kbuild", f"{work}/usr/lib/linux-kbuild"))
    for link in glob.glob(f"{work}/usr/src/linux-headers-*/*"):
        if os.path.islink(link) and os.readlink(link).startswith("/usr/"):
            to = work + os.readlink(link)
            os.unlink(link)
            os.symlink(to, link)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(tree, "vmlinux"))  # BTF of this module would want pahole, and nobody reads it
    src = os.path.join(work, MODULE)
    run(["make", "-C", tree, f"M={src}", "CONFIG_NETDEVSIM=m", "modules"], "make")
    os.makedirs(os.path.dirname(module(kernel)), exist_ok=True)
    shutil.copy(os.path.join(src, "netdevsim.ko"), module(kernel) + ".new")
    os.rename(module(kernel) + ".new", module(kernel))
    run(["depmod", "-b", kernel.dir, kernel.version], "depmod", env=dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin"))
