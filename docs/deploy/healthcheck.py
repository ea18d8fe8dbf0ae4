"""
Asks the service of this container whether it runs: exit code 0 if it does.
"""

import os
import socket
import sys


def main() -> int:
    """
    Ask over the Unix socket in the state directory.
    """
    path = os.path.join(os.environ["DTT_STATE_DIR"], "dtt.sock")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(path)
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return 0 if connection.recv(100).startswith(b"HTTP/1.1 200 ") else 1
        except OSError as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
