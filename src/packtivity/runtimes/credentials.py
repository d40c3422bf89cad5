"""Passes the caller's Kerberos ticket, grid proxy and bearer token into a container, after checking when they expire."""

from __future__ import annotations

import base64
import calendar
import json
import os
import re
import struct
import time
from dataclasses import dataclass, replace
from stat import S_ISREG, S_IWOTH
from typing import TYPE_CHECKING

from packtivity import settings
from packtivity.errors import EnvironmentUnavailable
from packtivity.types import Diagnostic, Execution, Mount

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from packtivity.runtimes.resources import Resources

SOON = 900.0
"""Seconds of life below which a credential gets a warning."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential of the caller.

    :ivar kind: its usual name.
    :ivar variable: the variable that says where it is.
    :ivar path: its file; empty when the variable has the credential itself.
    :ivar ends: when it expires, seconds since the epoch; ``None`` when that cannot be read.
    :ivar renew: how to get a new one.
    """

    kind: str
    variable: str
    path: str
    ends: float | None
    renew: str

    def state(self, now: float) -> str:
        """Return its lifetime in words: ``expires in 12 minutes``."""
        if self.ends is None:
            return "of unknown lifetime"
        left = self.ends - now
        if left <= 0:
            return "has expired"
        return f"expires in {left / 60:.0f} minutes" if left < 7200 else f"expires in {left / 3600:.0f} hours"


def find(caller: Mapping[str, str], uid: int) -> dict[str, Credential]:
    """Return the caller's credentials by kind: ``kerberos``, ``voms_proxy``, ``token``.

    Where every user may put a file of that name, one of another user's is left alone, as their libraries do.
    """
    credentials = {}
    cache = caller.get("KRB5CCNAME", f"FILE:/tmp/krb5cc_{uid}")
    scheme, _, path = cache.rpartition(":")
    if scheme in ("", "FILE") and _is_own_file(path, uid):
        ends = kerberos_end(_read(path))
        credentials["kerberos"] = Credential("Kerberos ticket", "KRB5CCNAME", path, ends, "kinit")
    proxy = caller.get("X509_USER_PROXY", f"/tmp/x509up_u{uid}")  # noqa: S108 - the libraries' own default
    if _is_own_file(proxy, uid):
        ends = proxy_end(_read(proxy))
        credentials["voms_proxy"] = Credential("grid proxy", "X509_USER_PROXY", proxy, ends, "voms-proxy-init")
    if token := _token(caller, uid):
        credentials["token"] = token
    return credentials


def _token(caller: Mapping[str, str], uid: int) -> Credential | None:
    """Find a bearer token where the WLCG discovery rules say."""
    if caller.get("BEARER_TOKEN"):
        return Credential("bearer token", "BEARER_TOKEN", "", token_end(caller["BEARER_TOKEN"]), "oidc-token")
    folder = caller.get("XDG_RUNTIME_DIR", "/tmp")  # noqa: S108 - WLCG Bearer Token Discovery
    for path in (caller.get("BEARER_TOKEN_FILE", ""), f"{folder}/bt_u{uid}"):
        if path and _is_own_file(path, uid):
            ends = token_end(_read(path).decode("utf-8", "replace").strip())
            return Credential("bearer token", "BEARER_TOKEN_FILE", path, ends, "oidc-token")
    return None


def _is_own_file(path: str, uid: int) -> bool:
    """Return whether a file exists that no other user can have put, or linked, there."""
    try:
        statuses, folder = (os.stat(path), os.lstat(path)), os.stat(os.path.dirname(path) or ".")
    except OSError:
        return False
    is_own = all(each.st_uid in (uid, 0) for each in statuses)
    return S_ISREG(statuses[0].st_mode) and (not folder.st_mode & S_IWOTH or is_own)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""


def with_credentials(
    execution: Execution, resources: Resources, warn: Callable[[Diagnostic], None] | None = None
) -> Execution:
    """Add the credentials that the resources ask for and the caller has; what the spec mounts itself is left alone.

    :raises EnvironmentUnavailable: one has expired.
    """
    kinds = {"kerberos": resources.kerberos, "voms_proxy": resources.voms_proxy or resources.rucio}
    wanted = {kind for kind, asked in kinds.items() if asked}
    if not wanted:
        return execution
    caller, now = settings.caller_environment(), time.time()
    for kind, credential in find(caller, os.getuid()).items():
        if kind in wanted or kind == "token":
            _refuse_expired(credential, now, warn)
            execution = _passed(execution, credential)
    return execution


def _refuse_expired(credential: Credential, now: float, warn: Callable[[Diagnostic], None] | None) -> None:
    if credential.ends is None:
        return
    if credential.ends <= now:
        where = credential.path or credential.variable
        raise EnvironmentUnavailable(
            f"the {credential.kind} that the task asks for has expired: {where}", hint=f"Renew it: {credential.renew}"
        )
    if credential.ends - now < SOON and warn is not None:
        message = f"the {credential.kind} {credential.state(now)}"
        warn(Diagnostic("warning", "credential-expires", message, hint=f"Renew it: {credential.renew}"))


def _passed(execution: Execution, credential: Credential) -> Execution:
    if credential.variable in execution.env:
        return execution
    if not credential.path:
        return replace(execution, pass_env=(*execution.pass_env, credential.variable))
    inside = f"/packtivity-credentials/{credential.variable.lower()}"
    value = f"FILE:{inside}" if credential.variable == "KRB5CCNAME" else inside
    return replace(
        execution,
        env={**execution.env, credential.variable: value},
        mounts=(*execution.mounts, Mount(os.path.abspath(credential.path), inside, readonly=True)),
    )


# --- when they end ---------------------------------------------------------------------------------------------


def token_end(token: str) -> float | None:
    """Return when a bearer token expires: the claim ``exp`` of a JSON Web Token (RFC 7519)."""
    parts = token.split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"])
    except (IndexError, ValueError, KeyError, TypeError):
        return None


_VALIDITY = re.compile(rb"\x30.(?:\x17\x0d|\x18\x0f)\d{12,14}Z(?:\x17\x0d(\d{12})Z|\x18\x0f(\d{14})Z)", re.DOTALL)
"""The validity of a certificate: a sequence of two times (X.690: UTCTime, GeneralizedTime), of which the second is its end."""


def proxy_end(pem: bytes) -> float | None:
    """Return when a grid proxy expires: the earliest end of validity of its certificates (RFC 5280)."""
    ends = []
    for block in pem.split(b"-----BEGIN CERTIFICATE-----")[1:]:
        try:
            validity = _VALIDITY.search(base64.b64decode(block.partition(b"-----END")[0]))
            if validity is None:
                return None
            short, full = validity.groups()
            text = (full or (b"19" if short >= b"50" else b"20") + short).decode()
            ends.append(float(calendar.timegm(time.strptime(text, "%Y%m%d%H%M%S"))))
        except ValueError:
            return None
    return min(ends, default=None)


def kerberos_end(cache: bytes) -> float | None:
    """Return when the ticket-granting ticket in a credential cache expires (MIT's file format, version 4).

    Behind the name of its server stand realm, type of key, key, and the times of authentication, start and end; each name
    and key after its length.
    """
    if not cache.startswith(b"\x05\x04"):
        return None
    name = b"\0\0\0\6krbtgt"
    try:
        realm = cache.index(name) + len(name)
        key = _after(cache, realm) + 2
        (ends,) = struct.unpack_from(">I", cache, _after(cache, key) + 8)
    except (ValueError, struct.error):
        return None
    return float(ends)


def _after(data: bytes, at: int) -> int:
    (size,) = struct.unpack_from(">I", data, at)
    return at + 4 + int(size)
