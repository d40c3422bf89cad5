"""The shell program that clears away a container whose task has died, and the processes that run it.

A reaper is told the name of a container, and then ``done``; when its input ends in between, it clears away. One that
was told ``done`` waits for the next name: a process that runs many tasks starts as many reapers as it has tasks at
the same time.
"""

from __future__ import annotations

import atexit
import os
import select
import threading
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from packtivity import settings
from packtivity.runtimes import process

if TYPE_CHECKING:
    Kind = tuple[str, tuple[str, ...], bool, dict[str, str]]

# $0 where private folders are, $1 whether the name completes the rest: how to remove the container. Signals are for
# others, only the pipe counts; who reads what is said here may be dead, so PIPE is ignored as well.
_PROGRAM = r"""
trap '' HUP INT PIPE TERM
base=$0 named=$1 pid= gone= round=0
shift
while read -r name; do
  read -r word
  [ "$word" = done ] || break
done
[ "$name" ] || exit 0
[ -z "$named" ] || set -- "$@" "$name"
folder=$base/$name grave=$base/$name.end
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
podmen() { # Podman's own processes; "running" when the container is
  for one in $(offspring "$pid" $(monitors)); do
    case $(cat "/proc/$one/comm" 2>/dev/null) in podman) echo "$one" ;; conmon) echo running ;; esac
  done
}
finish() { # killed while it makes or removes a container, Podman can leave a store that no image can be had from
  round=0
  while [ "$round" -lt 20 ]; do
    case $(podmen | tr '\n' ' ') in '' | *running*) return ;; esac
    [ "$round" != 0 ] || kill -TERM "-$pid" 2>/dev/null
    round=$((round + 1))
    sleep 0.1
  done
}
if [ -n "$pid" ]; then
  finish
  kill -STOP "-$pid" 2>/dev/null
  send STOP "$(offspring "$pid")" # what stands still starts nothing more while it is looked at
  roots="$pid $(monitors | tr '\n' ' ')"
  send STOP "$(offspring $roots)"
  send KILL "$(offspring $roots)"
  kill -KILL "-$pid" 2>/dev/null
fi
round=0 until=$(($(date +%s) + 5))
while [ $# -gt 0 ] && [ -n "$pid" ] && { [ "$round" -lt 3 ] || [ "$(date +%s)" -lt "$until" ]; }; do
  removed=$("$@" 2>/dev/null)
  if [ -z "$removed" ]; then
    [ "$gone" ] && break
    [ "$round" = 0 ] && echo clear
  else
    gone=yes
  fi
  round=$((round + 1))
  sleep 0.3
done
roots=$(monitors | tr '\n' ' ')
[ -z "$roots" ] || send KILL "$(offspring $roots)"
rm -rf "$grave" 2>/dev/null || { chmod -R u+rwx "$grave"; rm -rf "$grave"; } # a task may close its own directories
echo end
"""
_PATIENCE = 10.0
_MOST_SPARE = 8
GRAVE = ".end"
"""What the reaper adds to the name of a private folder while it clears away; then the folder is gone."""

_spare: list[Reaper] = []
_living: set[Reaper] = set()


class Reaper:
    """A running reaper; :func:`take` returns one."""

    def __init__(self, kind: Kind) -> None:
        base, remove, named, environment = self.kind = kind
        argv = ("sh", "-c", _PROGRAM, base, "yes" if named else "", *remove)
        self._helper = process.start_helper(argv, environment)
        _living.add(self)

    def watch(self, name: str) -> bool:
        """Tell it the name of a container; false when somebody has killed it."""
        return self._say(name)

    def done(self) -> None:
        """Tell it that there is nothing to clear away, and keep it for the next container."""
        if self._say("done") and len(_spare) < _MOST_SPARE:
            _spare.append(self)
        else:
            self.end()

    def clear(self) -> None:
        """Let it clear away; return as soon as it sees nothing more, or after ten seconds."""
        output = self._hang_up()
        if output is None:
            return
        poller = select.poll()  # which, unlike select, takes descriptors of any number
        poller.register(output, select.POLLIN)
        if poller.poll(_PATIENCE * 1000):
            os.read(output.fileno(), 64)
        output.close()
        # It may look a while longer for a container that a daemon was about to make: nobody has to wait for that.
        threading.Thread(target=self._helper.wait, daemon=True).start()

    def end(self) -> None:
        """Let go of one that has nothing to clear away."""
        output = self._hang_up()
        if output is not None:
            output.close()
        self._helper.wait()

    def disown(self) -> None:
        """Close our ends in a process that was forked: only the one that started it may hold it."""
        output = self._hang_up()
        if output is not None:
            output.close()
        self._helper.returncode = 0  # not our child: nothing to wait for

    def _say(self, word: str) -> bool:
        try:
            return self._helper.stdin is not None and bool(self._helper.stdin.write(f"{word}\n".encode()))
        except BrokenPipeError:
            return False

    def _hang_up(self) -> IO[bytes] | None:
        _living.discard(self)
        if self._helper.stdin is not None:
            self._helper.stdin.close()
        return self._helper.stdout


def take(name: str, base: str, remove: tuple[str, ...]) -> Reaper:
    """Return a reaper that watches over the container ``name`` and its private folder ``base/name``.

    :param remove: arguments that remove the container; empty when killing the processes is enough.
    :raises EnvironmentUnavailable: there is no ``sh``.
    """
    named = remove[-1:] == (name,)
    kind = (base, remove[:-1] if named else remove, named, settings.caller_environment())
    while (spare := _take_spare(kind)) is not None:
        if spare.watch(name):
            return spare
        spare.end()
    reaper = Reaper(kind)
    reaper.watch(name)
    return reaper


def _take_spare(kind: Kind) -> Reaper | None:
    for reaper in tuple(_spare):
        if reaper.kind == kind:
            with suppress(ValueError):  # another thread has just taken it
                _spare.remove(reaper)
                return reaper
    return None


def _end_spare() -> None:
    while _spare:
        _spare.pop().end()


def _in_forked_child() -> None:
    """Let go of what the parent holds, which could not be seen to die as long as we live."""
    _spare.clear()
    for reaper in list(_living):
        reaper.disown()


atexit.register(_end_spare)
os.register_at_fork(after_in_child=_in_forked_child)
