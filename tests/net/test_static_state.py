# SPDX-License-Identifier: GPL-2.0-or-later
"""Static keys and their durable state (I2): lost, foreign or turned-back state never repeats a nonce.

Refusing is judged on the wire: no envelope with the SPI leaves, the link says sa-refused, and the
sentence says what to do. An older copy may be used when every later IV lies above all earlier ones.
"""
import glob
import os
import shutil
import struct

import pytest

from lib.carried import by_kernel
from lib.esp_peer import Frame
from lib.keys import Pair
from lib.traffic import need_ping, ping
from lib.util import sh, stays, tool, wait_until


def state_files(d):
    return sorted(p for p in glob.glob(d.state_dir + "/**", recursive=True) if os.path.isfile(p))


def sent(lab, t, spi):
    return [f for f in map(Frame, lab.tap.pcap(t.a, "eth1", True)) if f.esp is not None and f.spi == spi]


def refusal(d):
    """The sentence of the outbound SA, when it refuses."""
    l = d.link(check=False)
    for s in (l or {}).get("sas", []):
        if s["dir"] == "out" and not s["live"]:
            return s["refused"]
    return None


def must_refuse(lab, t, words):
    """The daemon runs, the link does not, nothing leaves under that key, and the reason is told."""
    had = len(sent(lab, t, t.pair.a.spi))
    sentence = wait_until(lambda: refusal(t.da), 3, lambda: f"a refusal: {t.da.ctl('sa list', check=False).stdout}")
    assert any(w in sentence.lower() for w in words), sentence
    assert t.da.link()["state"] == "down" and t.da.reason() == "sa-refused"
    ping(t.h1, "10.2.0.2", count=3, timeout=0.2)
    stays(lambda: len(sent(lab, t, t.pair.a.spi)) == had, 0.5, "no envelope leaves", poll=0.1)
    t.da.key_files and lab.skip_checks.add("conservation")


@pytest.fixture
def bed(lab):
    t = lab.two_gateways(liveness="off")
    need_ping(t.h1, "10.2.0.2", count=20, interval=0.005)
    assert state_files(t.da)
    return t


def test_no_state_refuses_and_init_allows(lab):
    """static init is the only thing that creates state."""
    t = lab.two_hosts()
    t.pair, ka, kb = lab.pair_files()
    t.da = lab.daemon(t.a, [t.link("a", ka, liveness="off")], keys=[ka], init=False)
    must_refuse(lab, t, ("static init",))
    t.da.stop()
    t.da.init_state()
    t.da.start()
    t.da.wait_up()


def test_init_twice_keeps_what_exists(lab, bed):
    bed.da.stop()
    before = [open(f, "rb").read() for f in state_files(bed.da)]
    bed.da.init_state(check=False)
    assert [open(f, "rb").read() for f in state_files(bed.da)] == before


def test_deleted(lab, bed):
    bed.da.kill()
    for f in state_files(bed.da):
        os.unlink(f)
    bed.da.start()
    must_refuse(lab, bed, ("missing", "init", "no such"))


@pytest.mark.parametrize("left", [0, 7, "half", "less-one"])
def test_truncated(lab, bed, left):
    bed.da.kill()
    for f in state_files(bed.da):
        size = os.path.getsize(f)
        os.truncate(f, {"half": size // 2, "less-one": size - 1}.get(left, left))
    bed.da.start()
    must_refuse(lab, bed, ("trunc", "short", "corrupt", "damaged", "not a"))


def test_corrupt(lab, bed):
    bed.da.kill()
    for f in state_files(bed.da):
        data = bytearray(open(f, "rb").read())
        data[len(data) // 2] ^= 0x10
        with open(f, "wb") as o:
            o.write(data)
    bed.da.start()
    must_refuse(lab, bed, ("corrupt", "checksum", "damaged"))


def test_other_key(lab, bed):
    """The state of another key under this key's name."""
    bed.da.kill()
    other = lab.daemon(bed.b, "", start=False, name=f"{bed.da.instance}o")
    key = Pair().write(lab.path("other.sa"), "a")
    other.add_keys(key)
    other.init_state()
    ours, theirs = state_files(bed.da), state_files(other)
    assert len(ours) == len(theirs)
    for o, x in zip(ours, theirs):
        shutil.copyfile(x, o)
    bed.da.start()
    must_refuse(lab, bed, ("another", "foreign", "fingerprint", "other key", "belongs", "direction"))


def test_read_only(lab, bed):
    bed.da.kill()
    d = bed.da.state_dir
    sh(["mount", "--bind", d, d])
    lab.closers.insert(0, lambda: sh(["umount", "-l", d], check=False))
    sh(["mount", "-o", "remount,ro,bind", d])
    bed.da.start()
    must_refuse(lab, bed, ("read-only", "write", "cannot"))


def test_two_senders_of_one_key(lab, bed):
    """The state is locked while in use: a second instance on the same state directory refuses."""
    second = lab.daemon(bed.h2, open(bed.da.conf_file).read().replace("eth1", "eth0"), start=False,
                        name=f"{bed.da.instance}s")
    os.symlink(bed.da.state_dir, second.state_dir)
    lab.closers.append(lambda: os.path.islink(second.state_dir) and os.unlink(second.state_dir))
    second.start()
    sentence = wait_until(lambda: refusal(second), 3, "the second sender refuses")
    assert any(w in sentence for w in ("lock", "in use", "another")), sentence


def shifted(seconds):
    return {"LD_PRELOAD": tool("clockshift.so"), "CLOCKSHIFT_S": str(seconds)}


@pytest.mark.parametrize("ahead", [3600, 10 * 365 * 86400])
def test_clock_set_back(lab, ahead):
    """It ran when the clock said later; now the clock is behind its mark."""
    t = lab.two_gateways(start=False, liveness="off")
    t.da.start(env=shifted(ahead))
    t.da.wait_up()
    t.db.start()
    need_ping(t.h1, "10.2.0.2")
    t.da.kill()
    t.da.start()
    must_refuse(lab, t, ("clock",))
    t.da.kill()
    t.da.start(env=shifted(ahead + 1))
    t.da.wait_up()


@pytest.mark.parametrize("pins", ["pins-kept", "pins-lost"])
def test_older_copy(lab, bed, pins):
    """A backup restored: refused, or every IV from now on is above every IV before."""
    t = bed
    t.da.stop()
    old = lab.path("old-state")
    sh(["cp", "-a", t.da.state_dir, old])
    t.da.start()
    t.da.wait_up()
    need_ping(t.h1, "10.2.0.2", count=50, interval=0.005)
    t.da.stop()
    if pins == "pins-lost":
        t.da.release()
    shutil.rmtree(t.da.state_dir, ignore_errors=True)
    sh(["cp", "-a", old, t.da.state_dir])
    before = sent(lab, t, t.pair.a.spi)
    t.da.start()
    wait_until(lambda: t.da.is_up() or refusal(t.da), 5, "up or refused")
    ping(t.h1, "10.2.0.2", count=20, interval=0.005, timeout=0.3)
    after = sent(lab, t, t.pair.a.spi)[len(before):]
    lab.skip_checks.add("seq")  # sequence numbers of the copy may come again; no IV may
    if refusal(t.da):
        assert not after
        lab.skip_checks.add("conservation")
        return
    assert after
    if by_kernel(0):  # its IVs are numbers mixed with a random start of each state
        assert not {f.iv for f in after} & {f.iv for f in before}
        return
    iv = lambda f: struct.unpack(">Q", f.iv)[0]
    assert min(map(iv, after)) > max(map(iv, before))


def test_key_file_modes(lab):
    """A key others can read is not used."""
    t = lab.two_hosts()
    t.pair, ka, _ = lab.pair_files()
    os.chmod(ka, 0o644)
    t.da = lab.daemon(t.a, [t.link("a", ka, liveness="off")], keys=[ka], init=False, start=False)
    assert t.da.init_state(check=False).returncode != 0
    t.da.start(wait=False)
    wait_until(lambda: t.da.ready() or not t.da.running(), 5, "it decides")
    ping(t.h1, "10.2.0.2", count=2, timeout=0.2)
    assert not sent(lab, t, t.pair.a.spi)
    lab.skip_checks.add("conservation")


def test_same_key_both_ways_is_refused(lab):
    t = lab.two_hosts()
    t.pair, ka, _ = lab.pair_files()
    t.pair.b.key, t.pair.b.salt = t.pair.a.key, t.pair.a.salt
    ka = t.pair.write(lab.path("mirror.sa"), "a")
    t.da = lab.daemon(t.a, [t.link("a", ka, liveness="off")], keys=[ka], init=False, start=False)
    p = t.da.init_state(check=False)
    assert p.returncode != 0 and t.pair.a.key.hex() not in p.stdout + p.stderr


def test_pair_writes_two_ready_files(lab):
    """ipsecctl static pair west east: files that work as they are, 0600, nothing overwritten, no key printed."""
    t = lab.two_hosts()
    where = lab.path("pair")
    p = t.a.run([tool("ipsecctl"), "static", "pair", "west", "east", "-o", where])
    west, east = os.path.join(where, "west", "east.sa"), os.path.join(where, "east", "west.sa")
    for f in (west, east):
        assert os.stat(f).st_mode & 0o777 == 0o600
    from lib.keys import keys_in_file
    ks = keys_in_file(west)
    assert len(ks) == 2 and keys_in_file(east) == ks[::-1]
    assert not any(k.hex() in p.stdout + p.stderr for k in ks)
    again = t.a.run([tool("ipsecctl"), "static", "pair", "west", "east", "-o", where], check=False)
    assert again.returncode != 0 and keys_in_file(west) == ks
    t.da = lab.daemon(t.a, [t.link("a", west)], keys=[west])
    t.db = lab.daemon(t.b, [t.link("b", east)], keys=[east])
    t.da.wait_up()
    need_ping(t.h1, "10.2.0.2")
