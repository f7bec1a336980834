#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""corpus.py pack DIR FILE [BYTES] | unpack FILE DIR: a fuzz corpus as one text file, an input a line.

A line is the input itself with \\\\, \\n, \\t and \\xHH for what is not printable ASCII. Lines that begin with #
are comments. Inputs in front of the mark `# found by fuzzing` are kept for good: regressions, and seeds
somebody wrote; pack replaces those behind it by the shortest files of DIR, BYTES of text in all.
"""
import hashlib
import os
import re
import sys

MARK = "# found by fuzzing, minimised: `make fuzz-corpus`\n"


def encode(data):
    out = []
    for i, b in enumerate(data):
        c = chr(b)
        if c in "\n\t\\":
            out.append({"\n": "\\n", "\t": "\\t", "\\": "\\\\"}[c])
        elif 32 <= b < 127 and not (c == "#" and i == 0) and not (c == " " and i in (0, len(data) - 1)):
            out.append(c)
        else:
            out.append(f"\\x{b:02x}")
    return "".join(out)


def decode(line):
    def one(m):
        return {"n": "\n", "t": "\t", "\\": "\\"}.get(m[1]) or chr(int(m[1][1:], 16))
    return re.sub(r"\\(x[0-9a-f]{2}|.)", one, line).encode("latin-1")


def read(path):
    """Lines in front of the mark, and all inputs."""
    if not os.path.exists(path):
        return [], []
    with open(path) as f:
        lines = f.readlines()
    kept = lines[:lines.index(MARK)] if MARK in lines else lines
    return kept, [decode(x.rstrip("\n")) for x in lines if x.strip() and not x.startswith("#")]


def unpack(path, directory):
    os.makedirs(directory, exist_ok=True)
    for data in read(path)[1]:
        with open(os.path.join(directory, hashlib.sha1(data).hexdigest()[:16]), "wb") as f:
            f.write(data)


def pack(directory, path, room):
    kept, _ = read(path)
    had = {decode(x.rstrip("\n")) for x in kept if not x.startswith("#")}
    found = []
    for name in os.listdir(directory):
        with open(os.path.join(directory, name), "rb") as f:
            found.append(f.read())
    text = []
    for data in sorted(set(found) - had - {b""}, key=lambda d: (len(d), d)):
        line = encode(data) + "\n"
        room -= len(line)
        if room < 0:
            break
        text.append(line)
    with open(path, "w") as f:
        f.writelines(kept + [MARK] + text)
    print(f"{path}: {len(had)} kept, {len(text)} of {len(found)} found")


if __name__ == "__main__":
    if len(sys.argv) >= 4 and sys.argv[1] == "pack":
        pack(sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 20000)
    elif len(sys.argv) == 4 and sys.argv[1] == "unpack":
        unpack(sys.argv[2], sys.argv[3])
    else:
        sys.exit(__doc__)
