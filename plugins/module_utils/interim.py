# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""HTTP responses behind answers that only say that one will come, such as 103 Early Hints (RFC 8297)."""

from __future__ import annotations

import http.client

STATUSES = range(102, 200)  # 100 is http.client's own, and after 101 it is no HTTP
MOST = 100  # of them before an answer


class Response(http.client.HTTPResponse):
    """Passes over such answers, as http.client does with 100 alone: one would be taken for the answer, and what comes
    after it for the answer to the next request."""

    def _read_status(self) -> tuple[str, int, str]:
        for _each in range(MOST):
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if found[1] not in STATUSES:
                return found
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"{MOST} answers say only that one will come")


class Connection(http.client.HTTPConnection):
    response_class = Response


class TlsConnection(http.client.HTTPSConnection):
    response_class = Response
