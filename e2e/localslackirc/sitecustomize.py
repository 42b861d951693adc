"""Name resolution for localslackirc.test.mjs, loaded by Python itself through PYTHONPATH.

localslackirc has https://slack.com/api/ written in it and knows no proxy. This answers one question differently, as a
line in /etc/hosts and a port forward would, without needing root or changing the machine: where slack.com:443 is.
Everything else stays as it is, above all the program: TLS, and the check that the certificate is slack.com's.
"""

import os
import socket

_real = socket.getaddrinfo


def _getaddrinfo(host, port, *args, **kwargs):
    if host in ("slack.com", b"slack.com") and port in (443, "443"):
        host, port = "127.0.0.1", int(os.environ["E2E_SLACK_PORT"])
    return _real(host, port, *args, **kwargs)


socket.getaddrinfo = _getaddrinfo
