# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a service answers: over HTTP, on its unix socket, or by a command. This file does I/O."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from .supervision import Claims, Ready, parse_port

LONGEST = 10  # seconds that a command which asks a service may take, timeout(1)


def http_answers(url: str, timeout: float = 2) -> str:
    """'' if a GET gives a status below 500 (asking for a password is an answer), else why not."""
    import http.client  # here, as it is slow to load and a probe does not need it

    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request("GET", parts.path or "/")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"GET {url}: {error}"
    finally:
        connection.close()
    return "" if status < 500 else f"GET {url}: status {status}"


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
        return http_answers(ready.http)
    if ready.unix:
        return socket_answers(ready.unix)
    if ready.command:
        code, out, err = run(["timeout", f"--kill-after={LONGEST}", str(LONGEST), *ready.command])
        if code == 124:
            return f"{' '.join(ready.command)} did not end within {LONGEST} s"
        return "" if code == 0 else f"{' '.join(ready.command)} exited with {code}: {(err or out).strip()[-500:]}"
    return ""


def wait(ready: Ready, run: Callable[[list[str]], tuple[int, str, str]]) -> str:
    """Asks until the service is ready ('') or the time is over (the last reason)."""
    return until(lambda: ask(ready, run), ready.timeout)


def until(asked: Callable[[], str], seconds: float) -> str:
    """Asks, with growing pauses, until the answer is '' or the time is over; returns the last answer."""
    deadline, pause = time.monotonic() + seconds, 0.05
    while True:
        problem = asked()
        if not problem or time.monotonic() > deadline:
            return problem
        time.sleep(pause)
        pause = min(pause * 1.5, 1.0)
