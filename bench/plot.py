# SPDX-License-Identifier: GPL-2.0-or-later
"""Bars with their spread, one SVG a group of cases. Written by hand: no library, and diffs that can be read."""
import html
import os

GROUPS = {
    "throughput": ("TCP through both gateways, Gbit/s", ("tcp1", "tcp4", "gwtcp1")),
    "packets": ("UDP with at most 1 % loss, kpps", ("udp64", "udp1372", "flood64")),
    "onecore": ("One core, XDP frames in, Mpps", ("enc64", "enc512", "enc1400", "dec64", "dec512", "dec1400")),
    "latency": ("Round trip, us", ("rtt_p50", "rtt_p99")),
    "cpu": ("CPU seconds of the whole machine", ("cpu_per_gb", "cpu_per_mpkt")),
    "esp": ("ESP stage alone, clocks per packet, batch 32", ("esp_enc64", "esp_dec64", "esp_enc1400", "esp_dec1400")),
    "instructions": ("In the VM: instructions per 64 B packet and gateway", ("insn_per_pkt64",)),
}
COLOUR = {"espwire": "#c0392b", "plain-on": "#95a5a6", "plain-off": "#bdc3c7", "bare-tunnel": "#7f8c8d", "bare-link": "#34495e", "wireguard-go": "#8e44ad", "strongswan-libipsec": "#2980b9",
          "dpdk-secgw": "#27ae60", "xfrm": "#d35400", "wireguard": "#6c3483", "plain": "#95a5a6"}
WIDTH, LEFT, RIGHT, BAR, GAP = 640, 150, 70, 14, 10


def _text(x, y, s, **attrs):
    more = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in attrs.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{html.escape(s)}</text>'


def svg(title, cases, rows):
    """Horizontal bars: a block a case, a bar an implementation, a line from min to max."""
    blocks = [(c, [r for r in rows if r["case"] == c and r["median"] is not None]) for c in cases]
    blocks = [(c, rs) for c, rs in blocks if rs]
    if not blocks:
        return None
    y, body = 44, []
    for case, rs in blocks:
        top = max(r["max"] for r in rs) or 1  # a scale for each case: CPU-s/GB and CPU-s/Mpkt share a plot
        body.append(_text(LEFT, y, case, font_weight="bold"))
        y += 6
        for r in rs:
            scale = (WIDTH - LEFT - RIGHT) / top
            w, lo, hi = (r[k] * scale for k in ("median", "min", "max"))
            body.append(_text(LEFT - 6, y + BAR - 3, r["impl"], text_anchor="end"))
            body.append(f'<rect x="{LEFT}" y="{y}" width="{w:.1f}" height="{BAR}" fill="{COLOUR.get(r["impl"], "#555")}"/>')
            body.append(f'<path d="M{LEFT + lo:.1f} {y + BAR / 2}H{LEFT + hi:.1f}" stroke="#000"/>')
            body.append(_text(LEFT + hi + 4, y + BAR - 3, f"{r['median']:.3g}"))
            y += BAR + 3
        y += GAP + 14
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" '
            f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>')
    return "\n".join([head, _text(LEFT, 20, title, font_size="14"), *body, "</svg>", ""])


def write(rows, out):
    """OUT/GROUP.svg for every group with figures. Return: the names written."""
    os.makedirs(out, exist_ok=True)
    names = []
    for name, (title, cases) in GROUPS.items():
        text = svg(title, cases, rows)
        if text:
            with open(os.path.join(out, f"{name}.svg"), "w") as f:
                f.write(text)
            names.append(f"{name}.svg")
    return names
