"""The physical limit: a process per connection that copies bytes from a socket to files.

It understands nothing: images are ``--image-bytes`` long, and each is answered with one byte.
"""

import argparse
import os
import signal
import socket
from pathlib import Path

_BUFFER_BYTES = 256 * 1024
_ANSWER = b"\0"


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--image-bytes", type=int, required=True)
    options = parser.parse_args()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    with socket.create_server(("127.0.0.1", options.port), backlog=128) as listener:
        while True:
            connection, (_, peer_port) = listener.accept()
            if os.fork() == 0:
                listener.close()
                with connection:
                    _copy(connection, options.folder, peer_port, options.image_bytes)
                os._exit(0)
            connection.close()


def _copy(connection: socket.socket, folder: Path, peer_port: int, image_bytes: int) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    number = 0
    while _copy_one(connection, folder / f"{peer_port}-{number}", buffer, image_bytes):
        connection.sendall(_ANSWER)
        number += 1


def _copy_one(connection: socket.socket, path: Path, buffer: memoryview, size: int) -> bool:
    """False at the end of the connection."""
    received = connection.recv_into(buffer, min(len(buffer), size))
    if not received:
        return False
    with path.open("xb", buffering=0) as file:
        left = size
        while received:
            file.write(buffer[:received])
            left -= received
            received = left and connection.recv_into(buffer, min(len(buffer), left))
    return left == 0


if __name__ == "__main__":
    main()
