"""Makes sure that what we start ends with us, even when we end by ``SIGKILL``.

Before a container tool starts, a small shell program (the reaper) starts in a session of its own and reads from a
pipe that only we hold. When the pipe closes without a last word, it kills the tool's process group, removes the
container until it stays removed, and deletes the private folder of the run. A signal that we live through closes the
same pipe, so there is one way to the end. The tool itself starts through a one-line shell program that first writes
down its process id; the reaper renames the folder before it looks, so a tool that comes too late cannot start.
"""

from __future__ import annotations

import os
import select
import threading
from typing import Self

from packtivity import settings
from packtivity.errors import StateError
from packtivity.runtimes import process

_STARTER = 'echo "$$" >"$0/pid" && exec "$@"'

# $0 folder, $1 name of the container, the rest: how to remove it. Signals are for others, only the pipe counts; who
# reads what is said here may be dead, so PIPE is ignored as well.
_REAPER = r"""
trap '' HUP INT PIPE TERM
folder=$0 name=$1 grave=$0.end pid= gone= round=0
shift
read -r word
[ "$word" = done ] && exit 0
mv "$folder" "$grave" 2>/dev/null || exit 0
if [ -e "$grave/pid" ]; then
  until [ -n "$pid" ] || [ "$round" = 50 ]; do pid=$(cat "$grave/pid"); round=$((round + 1)); done
fi
offspring() { # the processes given, and all below them or in a session that one of them leads
  wanted=" $* " more=yes
  while [ "$more" ]; do
    more=
    for stat in /proc/[0-9]*/stat; do
      { read -r line <"$stat"; } 2>/dev/null || continue
      one=${line%% *}
      set -- ${line##*) }
      case $wanted in
        *" $one "*) ;;
        *" $2 "* | *" $4 "*) wanted="$wanted$one " more=yes ;;
      esac
    done
  done
  echo "$wanted"
}
send() { for one in $2; do kill "-$1" "$one" 2>/dev/null; done; }
monitors() { # what Podman starts beside its client: found by the container's name in its arguments
  for file in $(grep -lsaF -e "$name" /proc/[0-9]*/cmdline); do
    other=${file#/proc/} other=${other%/cmdline}
    case $(cat "/proc/$other/comm" 2>/dev/null) in conmon | podman | runc | crun) echo "$other" ;; esac
  done
}
if [ -n "$pid" ]; then
  kill -STOP "-$pid" 2>/dev/null
  send STOP "$(offspring "$pid")" # what stands still starts nothing more while it is looked at
  roots="$pid $(monitors | tr '\n' ' ')"
  send STOP "$(offspring $roots)"
  send KILL "$(offspring $roots)"
  kill -KILL "-$pid" 2>/dev/null
fi
round=0
while [ $# -gt 0 ] && [ -n "$pid" ] && [ "$round" -lt 16 ]; do
  removed=$("$@" 2>/dev/null)
  if [ -z "$removed" ]; then
    [ "$gone" ] && break
    [ "$round" = 0 ] && echo clear
  else
    gone=yes round=0
  fi
  round=$((round + 1))
  sleep 0.3
done
roots=$(monitors | tr '\n' ' ')
[ -z "$roots" ] || send KILL "$(offspring $roots)"
rm -rf "$grave"
echo end
"""
_PATIENCE = 10.0


class Lifeline:
    """Use as a context: what is started through :meth:`argv` inside the block is gone after it, come what may.

    :param name: of the container; no two are alike.
    :param remove: arguments that remove it; empty when killing the processes is enough.
    :param base: directory that the private folder is made in.
    :raises StateError: there is no room for the private folder.
    """

    def __init__(self, name: str, remove: tuple[str, ...] = (), base: str | None = None) -> None:
        self.name = name
        self.folder = os.path.join(base or settings.temporary_dir(), name)
        self._remove = remove
        self._reaper: process.Helper | None = None

    def __enter__(self) -> Self:
        argv = ("sh", "-c", _REAPER, self.folder, self.name, *self._remove)
        self._reaper = process.start_helper(argv)  # first, so that there is no moment in which the folder is nobody's
        try:
            os.mkdir(self.folder, 0o700)
        except OSError as error:
            self.release()
            raise StateError(
                f"the private folder {self.folder} cannot be made: {error.strerror}",
                hint="Set TMPDIR to another place.",
            ) from error
        return self

    def argv(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return what to start in place of ``argv``."""
        return ("sh", "-c", _STARTER, self.folder, *argv)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let the reaper go when all went well; else let it do its work, and wait until nothing is left to see."""
        if kind is None:
            self.release()
        else:
            self.cut()

    def release(self) -> None:
        """End without anything to clear away but the private folder."""
        reaper = self._reaper
        if reaper is None:
            return
        _remove_tree(self.folder)
        self._say(b"done\n")
        reaper.wait()
        self._close()

    def cut(self) -> None:
        """Let the reaper end everything; return as soon as it sees nothing more, or after ten seconds."""
        reaper = self._reaper
        if reaper is None or reaper.stdout is None:
            return
        self._say(b"")
        if select.select([reaper.stdout], [], [], _PATIENCE)[0]:
            os.read(reaper.stdout.fileno(), 64)
        # It may look a while longer for a container that a daemon was about to make: nobody has to wait for that.
        threading.Thread(target=reaper.wait, daemon=True).start()
        self._close()

    def _say(self, word: bytes) -> None:
        stdin = self._reaper.stdin if self._reaper is not None else None
        if stdin is None:
            return
        try:
            stdin.write(word)
            stdin.close()
        except BrokenPipeError:
            pass  # somebody killed the reaper; there is nobody to tell

    def _close(self) -> None:
        if self._reaper is not None and self._reaper.stdout is not None:
            self._reaper.stdout.close()
        self._reaper = None


def new_name() -> str:
    """Return a name for a container that nothing else has."""
    return f"packtivity-{os.urandom(8).hex()}"


def _remove_tree(folder: str) -> None:
    import shutil

    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
        if names == ["pid"]:
            os.unlink(os.path.join(folder, "pid"))
        if names in ([], ["pid"]):
            os.rmdir(folder)
            return
    except OSError:
        pass
    shutil.rmtree(folder, ignore_errors=True)
