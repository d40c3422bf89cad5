"""The shell program that clears away a container whose task has died, and the processes that run it.

A reaper is told the name of a container, that its private folder is made, and then ``done``; when its input ends in
between, it clears away. One that was told ``done`` waits for the next name: a process that runs many tasks starts as
many reapers as it has tasks at the same time.

Other users of the machine may write beside the folder, name processes as they like, and get the number of a process that
has ended. So a process is ended only if it began when the one did that has written its number into the folder, or is
of this user and was begun since.
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
# The folder is entered as soon as it is there, and known by its inode and owner: its name may lead elsewhere later.
_PROGRAM = r"""
trap '' HUP INT PIPE TERM
base=$0 named=$1 pid= born= now= gone= round=0
shift
while read -r name; do
  inode= owner= here=
  read -r word inode owner
  if [ "$word" = made ]; then
    cd "$base/$name" 2>/dev/null && here=yes
    read -r word
  fi
  [ "$word" = done ] || break
  cd /
done
[ "$name" ] || exit 0
if [ -z "$inode" ]; then # nothing has been put there yet
  rmdir "$base/$name" 2>/dev/null
  exit 0
fi
[ -z "$named" ] || set -- "$@" "$name"
ours() { # this is the folder that was made, and nobody else may look into it
  set -- $(ls -dlin . 2>/dev/null)
  case $2 in drwx--[-S]---*) [ "$here $1 $4" = "yes $inode $owner" ] ;; *) return 1 ;; esac
}
ours || { here=; cd /; }
if [ "$here" ]; then
  mkdir end 2>/dev/null # who starts now sees it, and ends
  if [ -f pid ]; then
    until [ -n "$pid" ] || [ "$round" = 50 ]; do pid=$(cat pid); round=$((round + 1)); done
    born=$(cat born 2>/dev/null)
  fi
fi
began() { # when a process began, in ticks since the machine did
  { read -r line <"/proc/$1/stat"; } 2>/dev/null || { ps -o lstart= -p "$1" 2>/dev/null; return; }
  set -- ${line##*) }
  echo "${20}"
}
user() { # the real user id of a process
  { while read -r key one rest; do [ "$key" != Uid: ] || { echo "$one"; return; }; done <"/proc/$1/status"; } 2>/dev/null ||
    ps -o ruid= -p "$1" 2>/dev/null | tr -d ' '
}
me=$(id -ru)
case $pid in *[!0-9]* | 0* | 1) pid= ;; esac
[ "$born" ] || pid=
[ -z "$pid" ] || now=$(began "$pid")
if [ "$now" ]; then # else it is gone, and what is left of its group and session keeps its number
  [ "$now" = "$born" ] && [ "$(user "$pid")" = "$me" ] || pid= # it has been given to somebody else
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
monitors() { # what Podman starts beside its client: of this user, younger, and with the container's name in its arguments
  for file in $(grep -lsaF -e "$name" /proc/[0-9]*/cmdline); do
    other=${file#/proc/}
    other=${other%/cmdline}
    case $(cat "/proc/$other/comm" 2>/dev/null) in conmon | podman | runc | crun) ;; *) continue ;; esac
    [ "$(user "$other")" = "$me" ] && [ "$(began "$other")" -ge "${born:-0}" ] && echo "$other"
  done 2>/dev/null
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
while [ $# -gt 0 ] && { [ "$round" -lt 3 ] || [ "$(date +%s)" -lt "$until" ]; }; do
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
sweep() {
  for one in ./* ./.[!.]* ./..?*; do rm -rf "$one" 2>/dev/null; done
  set -- $(ls -A .)
  [ $# = 0 ]
}
if [ "$here" ]; then
  sweep || { chmod -R u+rwx . 2>/dev/null; sweep; } # a task may close its own directories
  cd /
  rmdir "$base/$name" 2>/dev/null
fi
echo end
"""
_PATIENCE = 10.0
_MOST_SPARE = 8

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

    def made(self, inode: int, owner: int) -> bool:
        """Tell it that the private folder is there; false when somebody has killed it."""
        return self._say(f"made {inode} {owner}")

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
