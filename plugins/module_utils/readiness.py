# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a service answers: over HTTP, on its unix socket, or by a command. This file does I/O."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .supervision import Claims, Ready, parse_port

if TYPE_CHECKING:
    import http.client

LONGEST = 10  # seconds that a command which asks a service may take, timeout(1)
SETTLED = 30  # seconds after which a service that starts should still be the same process


def http_answers(url: str, certificate: str = "", timeout: float = 2) -> str:
    """'' if a GET gives a status below 500 (asking for a password is an answer), else why not.

    With `certificate`, a PEM file, the service must show exactly that one. Whether clients accept it is not asked: they
    use another name, and another clock.
    """
    import http.client  # here, as it is slow to load and a probe does not need it

    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection = (_https(host, port, certificate, timeout) if parts.scheme == "https"
                  else http.client.HTTPConnection(host, port, timeout=timeout))
    try:
        if certificate:
            connection.connect()
            if _shown(connection.sock) != _first(certificate):
                return f"GET {url}: the certificate is not the one in {certificate}"
        connection.request("GET", parts.path or "/")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"GET {url}: {error}"
    finally:
        connection.close()
    return "" if status < 500 else f"GET {url}: status {status}"


def _https(host: str, port: int | None, certificate: str, timeout: float) -> http.client.HTTPSConnection:
    import http.client
    import ssl

    context = ssl.create_default_context()
    if certificate:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)


def _shown(connection: object) -> bytes:
    """The certificate that a server showed (DER); nothing without TLS."""
    import ssl

    return connection.getpeercert(True) or b"" if isinstance(connection, ssl.SSLSocket) else b""


def _first(path: str) -> bytes:
    """The first certificate in a PEM file, as it is sent (DER)."""
    import ssl

    with open(path, encoding="utf-8") as file:
        text = file.read()
    end = "-----END CERTIFICATE-----"
    begin = text.find("-----BEGIN CERTIFICATE-----")
    return ssl.PEM_cert_to_DER_cert(text[max(begin, 0):].partition(end)[0] + end)


def socket_answers(path: str, timeout: float = 2) -> str:
    """'' if something listens on the unix socket, else why not."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(path)
        except OSError as error:
            return f"{path}: {os.strerror(error.errno or 0)}"
    return ""


def port_answers(address: str, port: int, timeout: float = 2) -> str:
    """'' if something listens on the port, else why not."""
    try:
        socket.create_connection((address, port), timeout).close()
    except OSError as error:
        return f"{address}:{port}: {error}"
    return ""


def claims_answer(claims: Claims) -> str:
    """'' if something listens on each claimed port and socket: the cheapest sign that a service is up. Else why not."""
    for text in claims.ports:
        problem = port_answers(*parse_port(text))
        if problem:
            return problem
    for path in claims.sockets:
        problem = socket_answers(path)
        if problem:
            return problem
    return ""


def ask(ready: Ready, run: Callable[[list[str]], tuple[int, str, str]]) -> str:
    """'' if the service says that it is ready, else why not."""
    if ready.http:
        return http_answers(ready.http, ready.certificate)
    if ready.unix:
        return socket_answers(ready.unix)
    if ready.command:
        code, out, err = run(["timeout", f"--kill-after={LONGEST}", str(LONGEST), *ready.command])
        if code == 124:
            return f"{' '.join(ready.command)} did not end within {LONGEST} s"
        return "" if code == 0 else f"{' '.join(ready.command)} exited with {code}: {(err or out).strip()[-500:]}"
    return ""


def wait(ready: Ready, run: Callable[[list[str]], tuple[int, str, str]], pid: Callable[[], int] = os.getpid) -> str:
    """Asks until the service is ready ('') or the time is over (the last reason). A slow board needs minutes, but after
    `SETTLED` seconds a service whose process (`pid`, 0 if there is none) comes and goes is not waited for."""
    began, seen = time.monotonic(), set[int]()

    def hopeful() -> bool:
        if time.monotonic() - began > SETTLED:
            seen.add(pid())
        return len(seen) < 2 and 0 not in seen

    return until(lambda: ask(ready, run), ready.timeout, hopeful)


def until(asked: Callable[[], str], seconds: float, hopeful: Callable[[], bool] = lambda: True) -> str:
    """Asks, with growing pauses, until the answer is '', the time is over, or there is no hope; returns the last
    answer."""
    deadline, pause = time.monotonic() + seconds, 0.05
    while True:
        problem = asked()
        if not problem or time.monotonic() > deadline or not hopeful():
            return problem
        time.sleep(pause)
        pause = min(pause * 1.5, 1.0)
