# The program of packtivity.runtimes.cleanup, run by `sh -c`.
# $0 where private folders are, $1 the name of this one, then how to remove the container. Signals are for
# others, only the pipe counts; who reads what is said here may be dead, so PIPE is ignored as well.
# The folder is entered as soon as it is there, and known by its inode and owner: its name may lead elsewhere later.
trap '' HUP INT PIPE TERM
base=$0 name=$1 pid= born= now= gone= here= round=0
shift
read -r word inode owner
if [ "$word" = made ]; then
  cd "$base/$name" 2>/dev/null && here=yes
  read -r word
fi
[ "$word" != done ] || exit 0
if [ -z "$inode" ]; then # nothing has been put there yet
  rmdir "$base/$name" 2>/dev/null
  exit 0
fi
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
