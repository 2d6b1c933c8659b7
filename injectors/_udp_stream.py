"""The victim of a network fault: a paced UDP stream, and how much of it leaves the host.

A socket's send buffer holds what has not left yet, in a qdisc or in the device, and is kept to 2 ms of the
stream: once it is full, what can be sent is what leaves. So the stream's own rate is measured, whatever else
the interface carries, and nobody need listen at the other end (port 9, discard).
Runs on the host, standard library only (Python >= 3.9).
"""

from __future__ import annotations

import errno
import socket
import time
from typing import TYPE_CHECKING

from tasks.host.site import Trouble

if TYPE_CHECKING:
    from injectors._networks import IP

PORT = 9
PAYLOAD, HEADERS = 1200, {4: 42, 6: 62}  # bytes; Ethernet's, IP's and UDP's, as tc counts
IP_RECVERR, IPV6_RECVERR, UDP_SEGMENT = 11, 25, 103  # linux/in.h, in6.h, udp.h
FILL_S, MEASURE_S, NAP_S = 0.2, 0.8, 0.0002
BUFFER_S, LEAST_BUFFER = 0.002, 8192
FAST_MBIT, SEGMENTS = 200, 8  # from here on one call sends 8 packets: one a call is too slow


def mbit_per_s(peer: IP, mbit: float) -> float:
    """Mbit/s that leave of a stream of `mbit` to a peer; takes 1 s. Raises Trouble."""
    with _socket(peer, mbit) as stream:
        try:
            return _pour(stream, str(peer), mbit, HEADERS[peer.version])
        except OSError as error:
            raise Trouble(f"the probe stream to {peer}: {error}") from error


def _socket(peer: IP, mbit: float) -> socket.socket:
    v4 = peer.version == 4  # noqa: PLR2004  of IP
    stream = socket.socket(socket.AF_INET if v4 else socket.AF_INET6, socket.SOCK_DGRAM)
    level, recverr = (socket.IPPROTO_IP, IP_RECVERR) if v4 else (socket.IPPROTO_IPV6, IPV6_RECVERR)
    stream.setsockopt(level, recverr, 1)  # else a packet that a full queue drops counts as sent
    buffer = int(mbit * 1e6 / 8 * BUFFER_S)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, max(buffer, LEAST_BUFFER))
    if mbit > FAST_MBIT:
        stream.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, PAYLOAD)
    return stream


def _pour(stream: socket.socket, peer: str, mbit: float, headers: int) -> float:
    packets = SEGMENTS if mbit > FAST_MBIT else 1
    data, size = bytes(PAYLOAD * packets), (PAYLOAD + headers) * packets
    due, done, left = mbit * 1e6 / 8, 0, 0  # bytes: a second, so far, and after the buffer was full
    begin = time.monotonic()
    while (spent := time.monotonic() - begin) < FILL_S + MEASURE_S:
        if done >= spent * due:
            time.sleep(NAP_S)
            continue
        stream.settimeout(FILL_S + MEASURE_S - spent)
        sent = _sent(stream, data, peer)
        done += size
        left += size if sent and spent >= FILL_S else 0
    return left * 8 / MEASURE_S / 1e6


def _sent(stream: socket.socket, data: bytes, peer: str) -> bool:
    stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # forget that nobody listens there
    try:
        stream.sendto(data, (peer, PORT))
    except (TimeoutError, socket.timeout):  # two errors until Python 3.10
        return False
    except OSError as error:
        if error.errno in (errno.ENOBUFS, errno.ECONNREFUSED):
            return False
        raise
    return True
