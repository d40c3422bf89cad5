"""Passes the caller's Kerberos ticket, grid proxy and bearer token into a container, after checking when they expire."""

from __future__ import annotations

import base64
import calendar
import ctypes
import json
import os
import re
import struct
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from stat import S_ISREG, S_IWOTH
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from packtivity import settings
from packtivity.errors import EnvironmentUnavailable
from packtivity.types import Diagnostic, Execution, Mount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from packtivity.runtimes.resources import Resources

SOON = 900.0
"""Seconds of life below which a credential gets a warning."""

PLACE = "/packtivity-credentials"
"""Where a container has credentials."""


KINDS = {
    "kerberos": ("Kerberos ticket", "kinit"),
    "voms_proxy": ("grid proxy", "voms-proxy-init"),
    "token": ("bearer token", "oidc-token"),
}
"""What credentials are called, and what makes new ones."""


class Credential(NamedTuple):
    """A credential of the caller.

    :ivar variable: the variable that says where it is.
    :ivar source: its file, or a ticket cache of another type, such as ``KCM:``; empty when the variable has the credential
        itself.
    :ivar ends: when it expires, seconds since the epoch; ``None`` when that cannot be read.
    """

    variable: str
    source: str
    ends: float | None

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
    path = caller.get("X509_USER_PROXY", f"/tmp/x509up_u{uid}")  # noqa: S108 - the libraries' own default
    proxy = Credential("X509_USER_PROXY", path, proxy_end(_read(path))) if _is_own_file(path, uid) else None
    found = {"kerberos": _ticket(caller, uid), "voms_proxy": proxy, "token": _token(caller, uid)}
    return {kind: credential for kind, credential in found.items() if credential is not None}


def _ticket(caller: Mapping[str, str], uid: int) -> Credential | None:
    """Find the ticket cache where Kerberos looks: ``KRB5CCNAME``; else the usual file, or what the system has for default."""
    chosen = caller.get("KRB5CCNAME")
    source = (chosen or f"/tmp/krb5cc_{uid}").removeprefix("FILE:")  # noqa: S108 - the library's own default
    if not chosen and not _is_own_file(source, uid):
        source = default_cache().removeprefix("FILE:")
    content = _read_cache(source) if is_cache(source) else _read(source) if _is_own_file(source, uid) else None
    return None if content is None else Credential("KRB5CCNAME", source, kerberos_end(content))


def _token(caller: Mapping[str, str], uid: int) -> Credential | None:
    """Find a bearer token where the WLCG discovery rules say."""
    if caller.get("BEARER_TOKEN"):
        return Credential("BEARER_TOKEN", "", token_end(caller["BEARER_TOKEN"]))
    folder = caller.get("XDG_RUNTIME_DIR", "/tmp")  # noqa: S108 - WLCG Bearer Token Discovery
    for path in (caller.get("BEARER_TOKEN_FILE", ""), f"{folder}/bt_u{uid}"):
        if path and _is_own_file(path, uid):
            return Credential("BEARER_TOKEN_FILE", path, token_end(_read(path).decode("utf-8", "replace").strip()))
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


# --- what a task gets ------------------------------------------------------------------------------------------


def with_credentials(
    execution: Execution, resources: Resources, directory: Mount, warn: Callable[[Diagnostic], None]
) -> Execution:
    """Add the credentials that the resources ask for and the caller has; what the spec mounts itself is left alone.

    One usable source is enough: the directory of credentials, or a credential that has not expired. Without any, the
    task runs all the same, as with upstream 0.17.1.

    :param directory: the directory of credentials, as it would be mounted.
    """
    kinds = {"kerberos": resources.kerberos, "voms_proxy": resources.voms_proxy or resources.rucio}
    wanted = {kind: KINDS[kind] for kind, is_asked in kinds.items() if is_asked}
    if not wanted:
        return execution
    caller, now, usable = settings.caller_environment(), time.time(), directory in execution.mounts
    for kind, credential in find(caller, os.getuid()).items():
        if kind not in wanted and kind != "token":
            continue
        (name, maker), where = KINDS[kind], credential.source or credential.variable
        renew = f"Renew it: {maker}"
        if credential.ends is not None and credential.ends <= now:
            message = f"the {name} that the task asks for has expired and is not passed on: {where}"
            warn(Diagnostic("warning", "credential-expired", message, hint=renew))
            continue
        if credential.ends is not None and credential.ends - now < SOON:
            warn(Diagnostic("warning", "credential-expires", f"the {name} {credential.state(now)}", hint=renew))
        usable = usable or kind in wanted or resources.rucio
        execution = _passed(execution, credential)
    if not usable and not any(variable in execution.env for variable in ("KRB5CCNAME", "X509_USER_PROXY")):
        names, makers = (" or ".join(words) for words in zip(*wanted.values(), strict=True))
        warn(
            Diagnostic(
                "warning",
                "credential-missing",
                f"the task asks for credentials, and there is no {names} that can be used"
                + (f", nor {directory.source}" if resources.authentication else ""),
                hint=f"Get one with {makers}, or say where credentials are: PACKTIVITY_AUTH_LOCATION.",
            )
        )
    return execution


def _passed(execution: Execution, credential: Credential) -> Execution:
    if credential.variable in execution.env:
        return execution
    if not credential.source:
        return replace(execution, pass_env=(*execution.pass_env, credential.variable))
    inside = f"{PLACE}/{credential.variable.lower()}"
    value = f"FILE:{inside}" if credential.variable == "KRB5CCNAME" else inside
    source = credential.source if is_cache(credential.source) else os.path.abspath(credential.source)
    return replace(
        execution,
        env={**execution.env, credential.variable: value},
        mounts=(*execution.mounts, Mount(source, inside, readonly=True)),
    )


def given(execution: Execution) -> list[Mount]:
    """Return the mounts of credentials."""
    return [mount for mount in execution.mounts if mount.destination.startswith(f"{PLACE}/")]


def copied(execution: Execution, folder: str, *, every: bool) -> tuple[Execution, list[str]]:
    """Copy credentials into a folder where they cannot be mounted as they are; return what to run, and the copies.

    :param folder: a private one, of this run.
    :param every: whether plain files are copied as well, because the task is another user, who may not read them.
    :raises EnvironmentUnavailable: a ticket cache cannot be read any more.
    """
    mounts, copies = [], []
    for mount in execution.mounts:
        if mount in given(execution) and (every or is_cache(mount.source)):
            copies.append(os.path.join(folder, os.path.basename(mount.destination)))
            if is_cache(mount.source):
                copy_cache(mount.source, copies[-1])
            else:
                with open(os.open(copies[-1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(_read(mount.source))
            mounts.append(mount._replace(source=copies[-1]))
        else:
            mounts.append(mount)
    return (replace(execution, mounts=tuple(mounts)) if copies else execution), copies


def without_caches(execution: Execution) -> Execution:
    """Leave out ticket caches that are not files: there is nothing that a command line could mount."""
    mounts = tuple(mount for mount in execution.mounts if not is_cache(mount.source))
    if mounts == execution.mounts:
        return execution
    env = {name: value for name, value in execution.env.items() if name != "KRB5CCNAME"}
    return replace(execution, mounts=mounts, env=env)


# --- ticket caches that are not files --------------------------------------------------------------------------

_LIBRARIES = ("libkrb5.so.3", "libkrb5.so.26", "/usr/lib/libkrb5.dylib")
"""Kerberos of MIT and of Heimdal, and that of macOS."""


def is_cache(source: str) -> bool:
    """Return whether a credential is a ticket cache of a type such as ``KCM:`` or ``KEYRING:``, and not a file."""
    return re.match(r"[A-Z]+:", source) is not None


def _read_cache(name: str) -> bytes | None:
    """Return what a file would have that has the tickets of a cache; ``None`` when there are none."""
    with TemporaryDirectory(prefix="packtivity-", dir=settings.temporary_dir()) as folder:
        try:
            copy_cache(name, f"{folder}/cache")
        except EnvironmentUnavailable:
            return None
        return _read(f"{folder}/cache")


def copy_cache(name: str, path: str) -> None:
    """Copy the tickets of a cache of any type into a file, by the system's Kerberos library: not every version has a command.

    :param name: as in ``KRB5CCNAME``.
    :param path: a new file, which only the user may read.
    :raises EnvironmentUnavailable: there is no library, or no such cache.
    """
    with _kerberos() as (library, context):
        source, target, principal = (ctypes.c_void_p() for _ in range(3))
        for function, arguments in (
            ("krb5_cc_resolve", (name.encode(), ctypes.byref(source))),
            ("krb5_cc_get_principal", (source, ctypes.byref(principal))),
            ("krb5_cc_resolve", (f"FILE:{path}".encode(), ctypes.byref(target))),
            ("krb5_cc_initialize", (target, principal)),
            ("krb5_cc_copy_creds", (source, target)),
            ("krb5_cc_close", (target,)),
        ):
            if getattr(library, function)(context, *arguments):
                raise EnvironmentUnavailable(f"the ticket cache {name} cannot be read", hint="klist says more.")


def default_cache() -> str:
    """Return the ticket cache that ``krb5.conf`` names; empty where there is no Kerberos."""
    try:
        with _kerberos() as (library, context):
            library.krb5_cc_default_name.restype = ctypes.c_char_p
            return os.fsdecode(library.krb5_cc_default_name(context) or b"")
    except EnvironmentUnavailable:
        return ""


@contextmanager
def _kerberos() -> Iterator[tuple[ctypes.CDLL, ctypes.c_void_p]]:
    """Give the system's Kerberos library, and a context of it.

    :raises EnvironmentUnavailable: there is none.
    """
    for name in _LIBRARIES:
        with suppress(OSError):
            library, context = ctypes.CDLL(name), ctypes.c_void_p()
            break
    else:
        raise EnvironmentUnavailable("there is no Kerberos library here")
    if library.krb5_init_context(ctypes.byref(context)):
        raise EnvironmentUnavailable("Kerberos cannot be used here", hint="Is krb5.conf in order?")
    try:
        yield library, context
    finally:
        library.krb5_free_context(context)


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
