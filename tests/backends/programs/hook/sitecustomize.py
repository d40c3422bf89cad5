"""Told by every interpreter of a test what it imports, starts and writes that could be an attacker's; one line each."""

import json
import os
import sys

LOG = os.environ.get("AUDIT_LOG")
ALLOWED = tuple(os.environ.get("AUDIT_ALLOWED", "").split(os.pathsep))
STARTING = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn"}
CHANGING = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate"}  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def is_elsewhere(path):
    if isinstance(path, int):
        return False
    return not os.path.realpath(os.fspath(path)).startswith((*map(os.fsencode, ALLOWED),) if isinstance(path, bytes) else ALLOWED)  # fmt: skip


def is_bad(event, args):
    if event == "import":
        return str(args[0]).startswith("antigravity_of") or "antigravity_of" in str(args[1])
    if event == "exec":  # what importlib is asked for tells nothing else
        return "antigravity_of" in getattr(args[0], "co_filename", "")
    if event == "ctypes.dlopen":  # of the program itself, by libraries
        return args[0] is not None
    if event == "open" and isinstance(args[2], int) and args[2] & WRITING:
        return is_elsewhere(args[0])
    if event in CHANGING:
        return any(is_elsewhere(path) for path in args[:2] if isinstance(path, (str, bytes, os.PathLike)))
    return event in STARTING or event == "socket.connect"


def hook(event, args):
    if event in SEEN:
        SEEN[event] += 1
        if is_bad(event, args):
            line = json.dumps([event, [str(arg)[:200] for arg in args[:2]], os.path.basename(sys.argv[0])])
            os.write(DESCRIPTOR, line.encode() + b"\n")


if LOG:
    DESCRIPTOR = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    SEEN = dict.fromkeys((*STARTING, *CHANGING, "import", "exec", "open", "socket.connect", "ctypes.dlopen"), 0)
    sys.addaudithook(hook)
