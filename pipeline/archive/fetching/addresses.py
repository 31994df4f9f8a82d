"""Which machines may be connected to: by default none that only this network can reach.

A list of addresses comes from elsewhere, and so do redirects. One that points to a router, a cloud's metadata
service or a program of this machine would make that answer to a stranger. So the address is looked at after its name
was resolved, and that very address is connected to: a name that resolves to another one the next time gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

from pipeline.errors import PipelineError

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # the last four bytes are an IPv4 address; RFC 6052


class AddressRefused(PipelineError):
    """A connection to a machine that may not be connected to."""

    def __init__(self, host: str, address: str) -> None:
        where = host if host == address else f"{host} ({address})"
        super().__init__(
            f"{where} is no public address, and is not connected to. If it is meant, allow it: --allow-private"
        )


def is_public(address: str) -> bool:
    """Whether the internet has this address: it is not private, link-local, loopback, multicast or reserved."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return is_public(str(ip.ipv4_mapped))
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip.sixtofour or ip.teredo:
            return False
    return ip.is_global and not ip.is_multicast


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to public addresses only."""

    def __init__(self) -> None:
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of a host that answers. Raises AddressRefused, httpcore.ConnectError."""
        addresses = await _resolve(host, port)
        for address in addresses:
            if not is_public(address):
                raise AddressRefused(host, address)
        error: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failure:
                error = failure
        raise error

    async def connect_unix_socket(self, path: str, *_arguments: Any, **_options: Any) -> httpcore.AsyncNetworkStream:
        """A socket in the file system is a program of this machine. Raises AddressRefused."""
        raise AddressRefused(path, path)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _resolve(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError(f"{host} cannot be resolved: {error.strerror}") from error
    return list(dict.fromkeys(str(entry[4][0]).split("%")[0] for entry in found))


def open_client(*, connections: int, seconds: float, allow_private: bool) -> httpx.AsyncClient:
    """Return a client with HTTP/2 where it is offered. It uses no proxy, which would hide addresses from the guard."""
    transport = httpx.AsyncHTTPTransport(
        http2=True,
        trust_env=False,
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
    )
    if not allow_private:
        transport._pool._network_backend = GuardedNetwork()  # httpx has no public way
    return httpx.AsyncClient(
        transport=transport,
        timeout=httpx.Timeout(seconds, pool=None),
        follow_redirects=True,
        max_redirects=10,
        trust_env=False,
        headers={"accept-encoding": "identity", "user-agent": "daybook"},
    )
