"""The pages' ports on the loopback address: which are preferred, and which are free."""

import socket

HOST = "127.0.0.1"
PORTS = {"prefect": 4200, "mlflow": 5000, "reports": 8090}


def is_free(port: int) -> bool:
    """Whether a server could listen on the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
