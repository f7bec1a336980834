# SPDX-License-Identifier: GPL-2.0-or-later
"""Static SAs as key files (user/safile.h) and as Python objects for the independent peer."""
import itertools
import os
import secrets
from dataclasses import dataclass, field

KEYLEN = {"aes-gcm-128": 16, "aes-gcm-256": 32, "chacha20-poly1305": 32}
ALGS = tuple(KEYLEN)
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
    spi: int = field(default_factory=fresh_spi)
    key: bytes = b""
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(4))

    def __post_init__(self):
        self.key = self.key or secrets.token_bytes(KEYLEN[self.alg])

    def text(self, section):
        lines = [f"[{section}]", f"spi  = {self.spi:#x}", f"alg  = {self.alg}", f"key  = {self.key.hex()}",
                 f"salt = {self.salt.hex()}", f"esn  = {'yes' if self.esn else 'no'}"]
        if self.window and section == "in":
            lines.append(f"window = {self.window}")
        return "\n".join(lines) + "\n"


class Pair:
    """Both directions between west and east. a is west's outbound, b is east's."""

    def __init__(self, alg="aes-gcm-256", esn=True, window=0):
        self.a, self.b = Sa(alg, esn, window), Sa(alg, esn, window)

    def write(self, path, side):
        out, back = (self.a, self.b) if side == "a" else (self.b, self.a)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as f:
            f.write(out.text("out") + "\n" + back.text("in"))
        return path

    def keys(self):
        return [self.a.key, self.b.key]


def keys_in_file(path):
    """Key bytes of a key file, for the hunt."""
    with open(path) as f:
        return [bytes.fromhex(line.split("=", 1)[1].strip()) for line in f
                if line.split("=")[0].strip() == "key"]
