"""Where the system under test is: what stands behind `--host`.

    tcp://127.0.0.1:9000                                    envelope and other framed protocols
    f00d://127.0.0.1:9000                                   another name for tcp
    ws://127.0.0.1:8080/path?query   wss://example.org/     WebSocket; ports 80 and 443 by default
    kv://127.0.0.1:9001,127.0.0.1:9002,127.0.0.1:9003       every node of a key-value cluster
    etcd://127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379   every member of an etcd cluster

IPv6 addresses stand in brackets: tcp://[::1]:9000.
"""

import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from protocols.errors import LocalProtocolError

# More nodes than any cluster here has; a longer list is a mistake in a script.
MAX_NODES = 64

# A password that somebody put here anyway must not end up in a log.
_USER_INFO = re.compile(r"//[^/?#]*@")
_DEFAULT_PORTS: Final = {"ws": 80, "wss": 443}
_EXAMPLES: Final = {
    "tcp": "tcp://127.0.0.1:9000",
    "f00d": "f00d://127.0.0.1:9000",
    "ws": "ws://127.0.0.1:8080/",
    "wss": "wss://example.org/",
    "kv": "kv://127.0.0.1:9001,127.0.0.1:9002,127.0.0.1:9003",
    "etcd": "etcd://127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379",
}
_CLUSTERS: Final = frozenset({"kv", "etcd"})


class BadHost(LocalProtocolError, ValueError):
    """A host that names no target. Its text is one sentence with an example of what would."""


class Host(NamedTuple):
    """`scheme` tcp, ws, wss, kv or etcd; `addresses` at least one (host, port); `path` "" or "/path?query" (ws)."""

    scheme: str
    addresses: list[tuple[str, int]]
    path: str

    @property
    def url(self) -> str:
        """The host written out again, as a user would give it."""
        return f"{self.scheme}://{','.join(format_address(*pair) for pair in self.addresses)}{self.path}"


def format_address(host: str, port: int) -> str:
    """`host:port`, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_host(text: str) -> Host:
    """The target that `text` names.

    >>> parse_host("kv://n1:9001,n2:9002")
    Host(scheme='kv', addresses=[('n1', 9001), ('n2', 9002)], path='')

    Raises BadHost (a LocalProtocolError and a ValueError) with one sentence for the user.
    """
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _EXAMPLES:
        schemes = ", ".join(f"{name}://" for name in _EXAMPLES)
        raise BadHost(
            f"host {_USER_INFO.sub('//***@', text)!r} must start with one of {schemes} (for example {_EXAMPLES['tcp']})"
        )
    if any(character.isspace() or not character.isprintable() for character in rest):
        raise _bad(text, scheme, "contains a space or control character")
    authority, path = rest, ""
    if scheme in _DEFAULT_PORTS:
        cut = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
        authority, path = rest[:cut], rest[cut:]
        if "#" in path:
            raise _bad(text, scheme, "has a #fragment, which no server ever sees")
        if path and not path.startswith("/"):
            path = f"/{path}"
    elif rest.endswith("/"):
        authority = rest[:-1]  # what a browser's address bar or a web form adds
    if "@" in authority:
        raise _bad(text, scheme, "contains a user name, which is not supported")
    parts = authority.split(",")
    if len(parts) > 1 and scheme not in _CLUSTERS:
        raise _bad(text, scheme, "lists several addresses, which only kv:// and etcd:// take")
    if len(parts) > MAX_NODES:
        raise _bad(text, scheme, f"lists more than {MAX_NODES} addresses")
    addresses = [_parse_address(part, text, scheme) for part in parts]
    if len(set(addresses)) < len(addresses):
        raise _bad(text, scheme, "lists an address twice")
    return Host("tcp" if scheme == "f00d" else scheme, addresses, path)


def name_problem(host: str) -> str | None:
    """Why `host` can be no name of the domain name system, such as `has nothing between two dots`; None when it can.

    Python's resolver raises UnicodeError for such a name, where it says that other names do not exist.
    """
    if not all(host.removesuffix(".").split(".")):
        return "has nothing between two dots of the host name"
    try:
        host.encode("idna")
    except UnicodeError:
        return "has a host name with a part that is longer than 63 bytes or not allowed"
    return None


def _parse_address(part: str, text: str, scheme: str) -> tuple[str, int]:
    if not part:
        raise _bad(text, scheme, "lacks an address")
    if "/" in part:
        raise _bad(text, scheme, "has a path, which only ws:// and wss:// take")
    try:
        split = urlsplit(f"//{part}")
        host, port = split.hostname, split.port
    except ValueError:
        raise _bad(text, scheme, f"has a malformed address or port in {part!r}") from None
    if not host:
        raise _bad(text, scheme, f"lacks a host name in {part!r}")
    if ":" in host and not part.startswith("["):
        raise _bad(text, scheme, f"has an IPv6 address without brackets in {part!r}")
    problem = name_problem(host)
    if problem is not None:
        raise _bad(text, scheme, f"{problem} in {part!r}")
    if port is None:
        port = _DEFAULT_PORTS.get(scheme)
        if port is None or part.endswith(":"):
            raise _bad(text, scheme, f"lacks a port in {part!r}")
    if port == 0:
        raise _bad(text, scheme, "has port 0, where nothing can listen")
    return host, port


def _bad(text: str, scheme: str, problem: str) -> BadHost:
    shown = _USER_INFO.sub("//***@", text)
    return BadHost(f"host {shown!r} {problem}; write it like {_EXAMPLES[scheme]}")
