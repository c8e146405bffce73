"""One HTTP request under one deadline: no redirects, no private addresses unless listed, no more bytes than allowed.

Written on `http.client` because the address that is checked must be the address that is connected
to, and because one deadline has to cover name look-up, connection, and an answer that comes in drop
by drop; client libraries set their time limits per step.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mentor_pl.errors import ConfigError, ToolBackendError

_LOOK_UPS = concurrent.futures.ThreadPoolExecutor(max_workers=8, thread_name_prefix="dns")
_CHUNK_BYTES = 1 << 16
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Refused(Exception):
    """The request was not made: it would have gone where it must not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to ask for.

    Attributes:
        method: HTTP method.
        url: Absolute, http or https.
        headers: Besides `Host`, `Content-Length` and `Accept-Encoding`.
        body: Sent as it is.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back.

    Attributes:
        status: HTTP status code.
        content_type: Media type without parameters, in lower case.
        body: At most the allowed number of bytes.
        complete: False where the answer was longer.
    """

    status: int
    content_type: str
    body: bytes
    complete: bool


def check_url(url: str) -> str:
    """Return the host of a URL, in lower case.

    Raises:
        ConfigError: It is not an absolute http or https URL, or carries a password.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url!r} is not an absolute http or https URL")
    if parts.username or parts.password:
        raise ConfigError(
            f"the URL of {parts.hostname!r} carries credentials; put them into a header taken from the environment"
        )
    return parts.hostname.lower()


def _is_public(address: str) -> bool:
    """Say whether an address belongs to the open internet, an IPv4 one within an IPv6 one included."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in _NAT64:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
    return parsed.is_global and not parsed.is_multicast


def is_private_by_name(host: str) -> bool:
    """Say whether a host is a private address, or `localhost`, as it is written, without looking it up."""
    try:
        return not _is_public(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _addresses(host: str, port: int, remaining_s: float, *, allow_private: bool) -> list[tuple[int, str]]:
    """Look a name up; return (family, address) pairs, all of them public unless private ones are allowed."""
    look_up = _LOOK_UPS.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        found = [(int(family), str(address[0])) for family, _, _, _, address in look_up.result(max(0.0, remaining_s))]
    except concurrent.futures.TimeoutError as late:
        look_up.cancel()
        raise TimeoutError(f"looking up {host!r}") from late
    except OSError as failure:
        raise ToolBackendError(f"{host!r} cannot be looked up: {failure}") from failure
    if not allow_private:
        for _, address in found:
            if not _is_public(address):
                raise Refused(f"{host} has the address {address}, which is not a public one")
    return found


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked, under a name that TLS checks."""

    def __init__(
        self, host: str, port: int, addresses: list[tuple[int, str]], deadline: float, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(host, port)
        self._addresses, self._deadline, self._tls = addresses, deadline, tls

    def connect(self) -> None:
        problem: OSError = OSError("it has no address")
        for family, address in self._addresses:
            raw = socket.socket(family, socket.SOCK_STREAM)
            raw.settimeout(max(0.01, self._deadline - time.monotonic()))
            self.sock = raw  # from here on `cut` reaches it, a TLS handshake included
            try:
                raw.connect((address, self.port))
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls:
                    self.sock = self._tls.wrap_socket(raw, server_hostname=self.host)
                return
            except OSError as failure:
                raw.close()
                problem = failure
        raise problem

    def cut(self) -> None:
        """End whatever it waits for."""
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


def fetch(request: Request, *, timeout_s: float, max_bytes: int, private_hosts: Collection[str] = ()) -> Response:
    """Make one request.

    Args:
        request: Its host must have been allowed by the caller.
        timeout_s: Seconds for all of it.
        max_bytes: Where to stop reading the answer.
        private_hosts: Host names that may have private, loopback or link-local addresses.

    Raises:
        Refused: The host's address is not a public one.
        TimeoutError: Time was up.
        ToolBackendError: The host cannot be reached, or does not speak HTTP.
    """
    deadline = time.monotonic() + timeout_s
    host, parts = check_url(request.url), urlsplit(request.url)
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if tls else 80)
    connection = _Connection(
        host, port, _addresses(host, port, timeout_s, allow_private=host in private_hosts), deadline, tls
    )
    # A limit on each step would let an answer trickle in for ever; this one ends whichever step it is.
    alarm = threading.Timer(max(0.0, deadline - time.monotonic()), connection.cut)
    alarm.daemon = True
    alarm.start()
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(request.method, target, request.body, {**request.headers, "Accept-Encoding": "identity"})
        answer = connection.getresponse()
        body = b""
        while len(body) <= max_bytes and (part := answer.read(min(_CHUNK_BYTES, max_bytes + 1 - len(body)))):
            body += part
        if time.monotonic() >= deadline:
            raise TimeoutError
        content_type = (answer.getheader("Content-Type") or "").partition(";")[0].strip().lower()
        return Response(
            status=answer.status, content_type=content_type, body=body[:max_bytes], complete=len(body) <= max_bytes
        )
    except (OSError, http.client.HTTPException) as failure:
        if time.monotonic() >= deadline or isinstance(failure, TimeoutError):
            raise TimeoutError(f"asking {host}") from failure
        raise ToolBackendError(f"{host} does not answer: {type(failure).__name__}: {failure}") from failure
    finally:
        alarm.cancel()
        connection.close()
