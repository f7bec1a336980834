# SPDX-License-Identifier: GPL-2.0-or-later
"""Frame sockets that see what a wire would carry: UDP super-packets come out as their datagrams."""
import socket
import struct

SOL_PACKET, PACKET_VNET_HDR = 263, 15
GSO_UDP_L4 = 5
OUTGOING = 4


def fold(data):
    if len(data) % 2:
        data += b"\0"
    s = sum(struct.unpack(f">{len(data) // 2}H", data))
    while s >> 16:
        s = (s & 0xffff) + (s >> 16)
    return s


def open_frames(ns, dev, proto=3, rcvbuf=16 << 20):
    """An AF_PACKET socket whose reads begin with a virtio_net_hdr."""
    s = ns.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    s.setsockopt(socket.SOL_SOCKET, 33, rcvbuf)  # SO_RCVBUFFORCE
    ns.enter(s.bind, (dev, proto))
    return s


def split(data):
    """(vnet header + frame) -> list of frames. TCP super-packets stay whole: their bytes are the stream."""
    gso, size = data[1] & 0x7f, struct.unpack("=H", data[4:6])[0]
    frame = data[10:]
    if gso != GSO_UDP_L4 or not size:
        return [frame]
    v6 = frame[14] >> 4 == 6
    ihl = 40 if v6 else (frame[14] & 15) * 4
    eth, ip, udp, body = frame[:14], frame[14:14 + ihl], frame[14 + ihl:22 + ihl], frame[22 + ihl:]
    return [eth + datagram(ip, udp, body[i:i + size], i // size) for i in range(0, len(body), size)]


def datagram(ip, udp, body, n):
    """The n-th datagram: lengths, IPv4 identification and checksums as segmentation makes them."""
    length = 8 + len(body)
    if ip[0] >> 4 == 4:
        ident = (struct.unpack(">H", ip[4:6])[0] + n) & 0xffff
        ip = ip[:2] + struct.pack(">HH", len(ip) + length, ident) + ip[6:10] + b"\0\0" + ip[12:]
        ip = ip[:10] + struct.pack(">H", fold(ip) ^ 0xffff) + ip[12:]
        pseudo = ip[12:20] + struct.pack(">HH", 17, length)
    else:
        ip = ip[:4] + struct.pack(">H", length) + ip[6:]
        pseudo = ip[8:40] + struct.pack(">II", length, 17)
    udp = udp[:4] + struct.pack(">HH", length, 0)
    return ip + udp[:6] + struct.pack(">H", fold(pseudo + udp + body) ^ 0xffff or 0xffff) + body
