"""Python imports this by itself where its folder is on the path: no socket may then be opened but to this machine.

What was tried is appended to the file that ``WATCHED_SOCKETS`` names, and fails.
"""

import os
import sys

_HERE = {"", "localhost", "::1", "0.0.0.0", "::", None}


def _watch(event: str, arguments: tuple) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # others are sockets in the file system
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in _HERE and not str(host).startswith("127."):
        with open(os.environ["WATCHED_SOCKETS"], "a") as file:
            print(event, host, file=file)
        raise OSError(f"a test forbids {event} to {host}")


sys.addaudithook(_watch)
