# SPDX-License-Identifier: GPL-2.0-or-later
"""DPDK's ipsec-secgw on both gateways over AF_XDP or AF_PACKET, AES-GCM-128. It polls: both cores burn."""
import os
import time

from bed import NET_L, NET_R, WILD_L, WILD_R, rx_packets
from lib import keys
from lib.util import BUILD, ROOT, sh
from peers import Tunnel, Unavailable

PROGRAM = os.path.join(BUILD, "bench/secgw/ipsec-secgw")
BUILDER = os.path.join(ROOT, "bench/peers/secgw-build")
POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB"
PAGES = 208  # for each process
KEY = ":".join(["de", "ad", "be", "ef"] * 5)  # 16 bytes of key, 4 of salt
CONF = """sp ipv4 in esp protect {spi_in} pri 2 src {far_net} dst {net} sport 0:65535 dport 0:65535
sp ipv4 in esp bypass pri 1 sport 0:65535 dport 0:65535
sp ipv4 out esp protect {spi_out} pri 2 src {net} dst {far_net} sport 0:65535 dport 0:65535
sp ipv4 out esp bypass pri 1 sport 0:65535 dport 0:65535
sa in {spi_in} aead_algo aes-128-gcm aead_key {key} mode ipv4-tunnel src {far_wild} dst {wild}
sa out {spi_out} aead_algo aes-128-gcm aead_key {key} mode ipv4-tunnel src {wild} dst {far_wild}
rt ipv4 dst {far_wild}/32 port 1
rt ipv4 dst {far_net} port 1
rt ipv4 dst {net} port 0
neigh port 0 {host_mac}
neigh port 1 {far_mac}
"""


class Secgw(Tunnel):
    name = "dpdk-secgw"
    variants = ("af_xdp", "af_packet")
    kinds = ("path", "enc", "dec")
    offload = False  # both drivers take frames as they are: partial checksums and super-packets must not come
    spins = True

    failed = None

    @classmethod
    def ways(cls, kind):
        return cls.variants if kind == "path" else cls.variants[:1]  # XDP frames want AF_XDP

    @classmethod
    def prepare(cls, say):
        if os.path.exists(PROGRAM):
            return
        say("ipsec-secgw: building it from Debian's source of dpdk, once")
        p = sh([BUILDER, os.path.dirname(PROGRAM)], check=False, timeout=600)
        if p.returncode:
            cls.failed = f"ipsec-secgw could not be built: {(p.stdout + p.stderr).strip().splitlines()[-1][:160]}"
            say(cls.failed)

    def up(self):
        if self.failed:
            raise Unavailable(self.failed)
        self.pages, self.mounted = 0, False
        self.sealing = ("esp", self.sa_file())
        self.need(PROGRAM)
        self.hugepages()
        bed = self.bed
        sides = {"l": (bed.gl, 0, dict(spi_in=1002, spi_out=1001, net=NET_L, far_net=NET_R, wild=WILD_L, far_wild=WILD_R,
                                       host_mac=bed.hl.mac("eth0"), far_mac=bed.gr.mac("wan"))),
                 "r": (bed.gr, 1, dict(spi_in=1001, spi_out=1002, net=NET_R, far_net=NET_L, wild=WILD_R, far_wild=WILD_L,
                                       host_mac=bed.hr.mac("eth0"), far_mac=bed.gl.mac("wan")))}
        for side in {"path": "lr", "enc": "l", "dec": "r"}[self.kind]:
            ns, core, values = sides[side]
            self.gateway(ns, side, core if self.kind == "path" else 0, values)
        logs = [f"{s}.log" for s in {"path": "lr", "enc": "l", "dec": "r"}[self.kind]]
        self.await_(lambda: all("entering main loop" in self.log(x, 400) or "lcoreid" in self.log(x, 400) for x in logs), 20,
                    lambda: "ipsec-secgw ready: " + self.log(logs[0]))
        time.sleep(0.5)
        if self.kind == "path":
            self.need_carrying(*logs)
        version = sh(["dpkg-query", "-W", "-f", "${Version}", "dpdk"], check=False).stdout
        self.notes.append(f"DPDK {version} net_{self.variant}, crypto_aesni_gcm, no replay window")

    def hugepages(self):
        """nr_hugepages is the machine's: add what is needed, take the same number away again."""
        want = PAGES * (2 if self.kind == "path" else 1)
        try:
            with open("/proc/sys/vm/compact_memory", "w") as f:
                f.write("1")
        except OSError:
            pass
        self.pages = want
        self.reserve(want)
        if self.free_pages() < want - 16:
            raise Unavailable(f"cannot reserve {want} huge pages of 2 MB")
        os.makedirs(self.path("huge"))
        sh(["mount", "-t", "hugetlbfs", "none", self.path("huge")])
        self.mounted = True

    def sa_file(self):
        """What its left gateway seals with, as espwire writes such things."""
        key = KEY.replace(":", "")
        out = keys.Sa("aes-gcm-128", esn=False, spi=1001, key=bytes.fromhex(key[:32]), salt=bytes.fromhex(key[32:]))
        with os.fdopen(os.open(self.path("gl.sa"), os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(out.text("out") + keys.Sa("aes-gcm-128").text("in"))
        return self.path("gl.sa")

    def received(self):
        return rx_packets(self.bed.hr, "eth0")

    def reserve(self, n):
        with open(f"{POOL}/nr_hugepages") as f:
            have = int(f.read())
        with open(f"{POOL}/nr_hugepages", "w") as f:
            f.write(str(max(0, have + n)))

    def free_pages(self):
        with open(f"{POOL}/free_hugepages") as f:
            return int(f.read())

    def gateway(self, ns, side, core, values):
        conf = self.path(f"{side}.conf")
        with open(conf, "w") as f:
            f.write(CONF.format(key=KEY, **values))
        if self.variant == "af_xdp":
            ports = [f"net_af_xdp{i},iface={dev},busy_budget=0" for i, dev in enumerate(("lan", "wan"))]
        else:
            ports = [f"net_af_packet{i},iface={dev},framesz=2048,blocksz=4096,framecnt=4096" for i, dev in enumerate(("lan", "wan"))]
        # port 0 is the LAN, "protected" in secgw's words; port 1 the wild wire, "unprotected" (-u)
        self.start(ns, [PROGRAM, "-l", str(core), "--file-prefix", f"bench{os.getpid()}{side}", "--huge-dir", self.path("huge"), "-m", "400",
                        "--no-pci", "--no-telemetry", "--vdev", ports[0], "--vdev", ports[1], "--vdev", "crypto_aesni_gcm0", "--",
                        "--rxoffload", "0", "--txoffload", "0", "-p", "0x3", "-P", "-u", "0x2", "-l", "--config", f"(0,0,{core}),(1,0,{core})",
                        "-f", conf], f"{side}.log")

    def down(self):
        if self.bed:
            for n in (self.bed.gl, self.bed.gr):
                n.kill_all()
        if getattr(self, "mounted", False):
            sh(["umount", "-l", self.path("huge")], check=False)
        if getattr(self, "pages", 0):
            time.sleep(0.3)
            self.reserve(-self.pages)
