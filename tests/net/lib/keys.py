# SPDX-License-Identifier: GPL-2.0-or-later
"""Static SAs as key files (user/safile.h) and as Python objects for the independent peer."""
import itertools
import os
import secrets
from dataclasses import dataclass, field

# suite: cipher key, authentication key, salt, in bytes
SUITES = {"aes-gcm-128": (16, 0, 4), "aes-gcm-256": (32, 0, 4), "chacha20-poly1305": (32, 0, 4),
          "aes-gmac-128": (16, 0, 4), "aes-gmac-256": (32, 0, 4),
          "aes-cbc-128-hmac-sha2-256": (16, 32, 0), "aes-cbc-256-hmac-sha2-256": (32, 32, 0),
          "aes-cbc-256-hmac-sha2-384": (32, 48, 0), "aes-cbc-256-hmac-sha2-512": (32, 64, 0),
          "aes-cbc-128-hmac-sha1": (16, 20, 0), "aes-cbc-256-hmac-sha1": (32, 20, 0),
          "null-hmac-sha2-256": (0, 32, 0), "null-hmac-sha2-384": (0, 48, 0), "null-hmac-sha2-512": (0, 64, 0)}
ALGS = ("aes-gcm-128", "aes-gcm-256", "chacha20-poly1305")  # where every combination is tried
_spi = itertools.count(0x10000 + (os.getpid() & 0x7fff) * 0x10000)


def fresh_spi():
    """Distinct within a run, so that one capture never holds two keys under one SPI."""
    return next(_spi) & 0x7fffffff


@dataclass
class Sa:
    """One direction."""

    alg: str = "aes-gcm-256"
    esn: bool = True
    window: int = 0  # 0 = not written: the default
    mode: str = ""   # "" = not written: tunnel
    life: dict = field(default_factory=dict)  # lifetime keys as in the file
    spi: int = field(default_factory=fresh_spi)
    key: bytes = b""
    auth: bytes = b""
    salt: bytes = b""

    def __post_init__(self):
        key, auth, salt = SUITES[self.alg]
        self.key = self.key or secrets.token_bytes(key)
        self.auth = self.auth or secrets.token_bytes(auth)
        self.salt = self.salt or secrets.token_bytes(salt)

    @property
    def cbc(self):
        return self.alg.startswith("aes-cbc")

    @property
    def gmac(self):
        return self.alg.startswith("aes-gmac")

    @property
    def null(self):
        return self.alg.startswith("null")

    @property
    def hmac(self):
        return self.cbc or self.null

    @property
    def sha(self):
        """1, 256, 384 or 512"""
        return int(self.alg.rpartition("sha1" if self.alg.endswith("sha1") else "-")[2] or 1)

    @property
    def iv_len(self):
        return 16 if self.cbc else 0 if self.null else 8

    @property
    def icv_len(self):
        """RFC 4868 2.3: half a hash; RFC 2404 2: 96 bits."""
        return 16 if not self.hmac else 12 if self.sha == 1 else self.sha // 16

    @property
    def align(self):
        return 16 if self.cbc else 4

    def text(self, section):
        lines = [f"[{section}]", f"spi  = {self.spi:#x}", f"alg  = {self.alg}",
                 f"esn  = {'yes' if self.esn else 'no'}"]
        lines += [f"key  = {self.key.hex()}"] if self.key else []
        lines += [f"auth-key = {self.auth.hex()}"] if self.auth else []
        lines += [f"salt = {self.salt.hex()}"] if self.salt else []
        lines += [f"mode = {self.mode}"] if self.mode else []
        lines += [f"{k} = {v}" for k, v in self.life.items()]
        if self.window:
            lines.append(f"window = {self.window}")
        return "\n".join(lines) + "\n"


class Pair:
    """Both directions between west and east. a is west's outbound, b is east's."""

    def __init__(self, alg="aes-gcm-256", esn=True, window=0, mode=""):
        self.a, self.b = Sa(alg, esn, window, mode), Sa(alg, esn, window, mode)

    def write(self, path, side):
        out, back = (self.a, self.b) if side == "a" else (self.b, self.a)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as f:
            f.write(out.text("out") + "\n" + back.text("in"))
        return path

    def keys(self):
        return [k for k in (self.a.key, self.a.auth, self.b.key, self.b.auth) if k]


def keys_in_file(path):
    """Key bytes of a key file, for the hunt."""
    with open(path) as f:
        return [bytes.fromhex(line.split("=", 1)[1].strip()) for line in f
                if line.split("=")[0].strip() in ("key", "auth-key")]
