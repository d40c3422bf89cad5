"""HTTP to servers that a document may have chosen: not into the user's own network, and no login unless it is given.

Names are looked up here and connections go to the addresses that were found, so that a name server cannot give one
address to the check and another to the connection. The library's own ways to a login (``~/.netrc``, the address itself)
are closed: whoever asks says which login is sent. Proxies and certificates are those of the environment.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import get_netrc_auth, select_proxy
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import parse_url
from urllib3.util.connection import allowed_gai_family

T = TypeVar("T")
Origin: TypeAlias = "tuple[str, str, int | None]"
"""Scheme, host and port (RFC 6454)."""

_PORTS = {"http": 80, "https": 443}
_LOOK_UP = 2.0
"""Seconds for a look-up that only a check needs, because a proxy makes the connection."""

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})
"""Looks public, and is the machine's own cloud: Azure's WireServer."""


class PrivateAddress(Exception):
    """A server is in the user's own network, or this machine, and not one that the user named.

    :ivar host: its name.
    :ivar found: what was found: ``127.0.0.1, a loopback address``.
    """

    def __init__(self, host: str, address: str) -> None:
        self.host = host
        self.found = f"{address}, {_kind(address)}"
        super().__init__(self.found)


def sent_url(url: str) -> str:
    """Return an address as it will be sent: escaped, and without ``..`` in it.

    :raises ValueError: it is none.
    """
    try:
        return requests.Request("GET", url).prepare().url or ""
    except (requests.RequestException, UnicodeError) as error:
        raise ValueError(type(error).__name__) from None  # what it says may have a password in it


def origin(url: str) -> Origin:
    """Return scheme, host and port of an address, as the connection will have them.

    :raises ValueError: it is none.
    """
    parts = parse_url(sent_url(url))
    scheme = parts.scheme or ""
    return scheme, (parts.host or "").strip("[]").lower(), parts.port or _PORTS.get(scheme)


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the Internet: of nobody's own network, machine or group."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip in _METADATA)
    inner = ip.ipv4_mapped or ip.sixtofour
    if ip in _NAT64:
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    return is_public(str(inner)) if inner else ip in _GLOBAL_UNICAST and ip.is_global


def _kind(address: str) -> str:
    ip: Any = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback or ip.is_unspecified:
        return "an address of this machine (loopback)"
    return "a link-local address" if ip.is_link_local else "an address that is not public"


class Guard:
    """Which addresses may be connected to: public ones, and any of the servers that the user named.

    A named server that was at a public address once does not become a private one: its name server may be a stranger's.

    :ivar inside: whether there was a connection to an address that is not public.
    """

    def __init__(self, named: Iterable[Origin] = ()) -> None:
        self.named = set(named)
        self.inside = False
        self._is_public: dict[str, bool] = {}

    def allow(self, server: Origin) -> None:
        """Take one more server as named by the user."""
        self.named.add(server)

    def addresses(self, server: Origin) -> list[str]:
        """Look up a server and return the addresses that may be connected to, at least one.

        :raises PrivateAddress: there are others only.
        :raises OSError: the name is not known.
        """
        _, host, port = server
        every = _look_up(host, port, allowed_gai_family())
        public = [address for address in every if is_public(address)]
        chosen = public
        if server in self.named and not self._is_public.setdefault(host, bool(public)):
            chosen = every
            self.inside = True
        if not chosen:
            raise PrivateAddress(host, every[0] if every else "0.0.0.0")  # noqa: S104 - nothing is bound to it
        return chosen

    def check_for_proxy(self, server: Origin) -> None:
        """Check a server that a proxy will connect to, as far as it can be looked up here.

        :raises PrivateAddress: one of its addresses is not public, and the proxy may choose that.
        """
        _, host, port = server
        if server in self.named:
            return
        if host.rstrip(".").endswith("localhost"):
            raise PrivateAddress(host, "127.0.0.1")
        try:
            found = within(_LOOK_UP, lambda: _look_up(host, port)) or []
        except (OSError, ValueError):
            return  # the name is not known here
        for address in found:
            if not is_public(address):
                raise PrivateAddress(host, address)


def _look_up(host: str, port: int | None, family: int = 0) -> list[str]:
    """Return the IP addresses of a name, each once.

    :raises OSError, ValueError: the name is not known, or cannot be one.
    """
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class _Guarded:
    """Part of a connection: looks its host up, and connects to nothing but what the guard lets through."""

    guard: Guard
    scheme: str

    def _new_conn(self: Any) -> Any:
        host, failed = self._dns_host, None
        try:
            for address in self.guard.addresses((self.scheme, host.strip("[]").lower(), self.port)):
                self._dns_host = address
                try:
                    return super()._new_conn()  # type: ignore[misc]  # that of the class beside it
                except (OSError, urllib3.exceptions.HTTPError) as error:
                    failed = error
        finally:
            self._dns_host = host  # which the certificate is checked for
        raise failed or OSError(f"{host} has no address")


class _Adapter(HTTPAdapter):
    """Has connections made by :class:`_Guarded`, but for those to a proxy, which is the user's own."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        """Make the pools of connections."""
        super().init_poolmanager(*arguments, **more)
        self.poolmanager.pool_classes_by_scheme = {
            "http": _guarded(HTTPConnectionPool, "http", self._guard),
            "https": _guarded(HTTPSConnectionPool, "https", self._guard),
        }


def _guarded(pool: type[HTTPConnectionPool], scheme: str, guard: Guard) -> Any:
    connection = type("Connection", (_Guarded, pool.ConnectionCls), {"guard": guard, "scheme": scheme})
    return type("Pool", (pool,), {"ConnectionCls": connection})


class Session(requests.Session):
    """Asks servers, one request at a time; redirects are answers like others.

    :param guard: which addresses may be connected to.
    """

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self._guard = guard
        for scheme in _PORTS:
            self.mount(f"{scheme}://", _Adapter(guard))

    def ask(
        self,
        url: str,
        headers: dict[str, str],
        timeout: float | tuple[float, float],
        login: tuple[str, str] | None = None,
    ) -> requests.Response:
        """Send one request; the answer's body is yet to be read.

        :param login: user and password, sent as ``Basic``; one in the address itself is not.
        :raises PrivateAddress: the server is not public, and not named.
        :raises OSError, ValueError: as ``requests`` does.
        """
        # Without an ``auth`` of ours requests would take the one in the address, or in ~/.netrc.
        request = requests.Request("GET", url, headers=headers, auth=login or (lambda prepared: prepared))
        prepared = self.prepare_request(request)
        address = prepared.url or ""
        environment = self.merge_environment_settings(address, {}, True, None, None)
        if select_proxy(address, environment["proxies"]):
            self._guard.check_for_proxy(origin(address))
        return self.send(prepared, timeout=timeout, allow_redirects=False, **environment)


def netrc_login(server: Origin) -> tuple[str, str] | None:
    """Return the login that ``~/.netrc`` (or ``NETRC``) has for a server."""
    # requests below 2.32.4 takes what stands before the first colon for the host, be it a user name.
    host = f"[{server[1]}]" if ":" in server[1] else server[1]
    found: tuple[str, str] | None = get_netrc_auth(f"{server[0]}://{host}/")
    return found


def within(seconds: float, work: Callable[[], T]) -> T | None:
    """Return what a function returns, or ``None`` when it takes longer; it is left to itself then.

    :raises Exception: whatever the function raises.
    """
    results: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            errors.append(error)

    thread = threading.Thread(target=run, name="packtivity-network", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    return results[0] if results else None
