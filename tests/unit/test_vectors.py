# SPDX-License-Identifier: GPL-2.0-or-later
"""Every vector in tests/vectors/*.h holds for an implementation that is not ours: python3-cryptography.

A typing error in a vector would otherwise be found only if our code is right, and our own mistake could
hide in a vector made to fit.
"""
import hashlib
import hmac
import os
import re
import struct

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

VECTORS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "vectors")


def rows(name):
    """The rows of one C table, as lists of strings, numbers and enum names."""
    for header in sorted(os.listdir(VECTORS)):
        with open(os.path.join(VECTORS, header)) as f:
            text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
        m = re.search(rf"static const struct \w+ {name}\[\] = \{{(.*?)\n\}};", text, re.S)
        if m:
            return [fields(row) for row in re.findall(r"\{(\"[^{}]*)\}", m[1])]
    raise LookupError(name)


def fields(row):
    out = []
    for strings, word in re.findall(r"((?:\"[^\"]*\"\s*)+)|([\w]+)", row):
        out.append("".join(re.findall(r"\"([^\"]*)\"", strings)) if strings else
                   word if word.startswith("AEAD_") else int(word.rstrip("u"), 0))
    return out


def ids(name):
    return [r[0] for r in rows(name)]


def each(name):
    return pytest.mark.parametrize("row", rows(name), ids=ids(name))


def hexes(*strings):
    return [bytes.fromhex(s) for s in strings]


def aead(alg, key):
    return ChaCha20Poly1305(key) if "CHACHA" in alg else AESGCM(key)


@each("aead_vectors")
def test_aead(row):
    _, alg, *rest = row
    key, nonce, aad, plain, sealed = hexes(*rest)
    assert aead(alg, key).encrypt(nonce, plain, aad) == sealed
    assert aead(alg, key).decrypt(nonce, sealed, aad) == plain


@each("esp_vectors")
def test_esp(row):
    _, alg, key, spi, seq, esn, *rest = row
    key, nonce, plain, sealed = hexes(key, *rest)
    aad = struct.pack(">IQ" if esn else ">II", spi, seq)
    if "GMAC" in alg:  # RFC 4543 3.3
        assert sealed == plain + aead(alg, key).encrypt(nonce, b"", aad + nonce[4:] + plain)
        return
    assert aead(alg, key).encrypt(nonce, plain, aad) == sealed


@each("cbc_vectors")
def test_cbc(row):
    _, alg, *rest = row
    key, iv, plain, cipher = hexes(*rest)
    assert len(key) * 8 == int(alg.split("_")[2])
    e = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    assert e.update(plain) + e.finalize() == cipher


@each("hmac_vectors")
def test_hmac(row):
    _, alg, *rest = row
    key, text, tag = hexes(*rest)
    if alg.endswith("SHA1"):
        assert len(key) == 20 and len(tag) == 12  # RFC 2404 2, 3
        assert hmac.new(key, text, hashlib.sha1).digest()[:12] == tag
        return
    bits = int(alg[-3:])
    assert len(key) * 8 == bits and len(tag) * 16 == bits  # RFC 4868 2.1, 2.6
    assert hmac.new(key, text, getattr(hashlib, f"sha{bits}")).digest()[:len(tag)] == tag


@each("gmac_vectors")
def test_gmac(row):
    """All of the text is AAD, however it is divided."""
    _, alg, *rest = row
    key, nonce, text, tag = hexes(*rest)
    assert len(key) * 8 == int(alg.split("_")[-1])
    assert aead(alg, key).encrypt(nonce, b"", text) == tag


def test_enough():
    """A parser that finds nothing finds no fault."""
    tables = ("aead_vectors", "esp_vectors", "cbc_vectors", "hmac_vectors", "gmac_vectors")
    assert [len(rows(n)) for n in tables] == [9, 17, 10, 15, 4]
    for name in tables:
        assert all(re.match(r"RFC \d+ |NIST |IEEE |draft-mcgrew-", source) for source in ids(name))
