"""Ports of this machine's loopback address, the only one that `make dev` listens on."""

import http.client
import socket
from typing import Final

HOST: Final = "127.0.0.1"


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: the connections of one that has just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def next_free_port(first: int) -> int:
    return next(port for port in range(first, 65_536) if is_free(port))


def answers(port: int) -> bool:
    """Tell whether an HTTP server answers there, whatever it says."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/server_info")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True
