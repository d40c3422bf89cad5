#!/bin/bash
# Runs a command in a fresh clone on a bare Debian, and prints what it changed outside the clone: files, packages, users,
# mounts, processes. As root, with mmdebstrap; the system has its own files, mounts and processes, and this machine's network.
#   tools/bare.sh make FOLDER                       make the system in FOLDER/system (1 minute, 300 MB)
#   tools/bare.sh root FOLDER COMMAND [ARGUMENT...]  run a command as root on a copy of it
#   tools/bare.sh user FOLDER COMMAND [ARGUMENT...]  run it as an ordinary user
# Several commands: bash -c '...'. How apt and pip find their servers here holds there, too; YES, CI, JOBS and PACKTIVITY_*
# are handed on. The engines there listen on other ports than here.
set -euo pipefail
SELF=$(realpath "$0")
CHECKOUT=$(dirname "$(dirname "$SELF")")
PERSON=ada
SUITE=bookworm
export PACKTIVITY_REGISTRY_PORT=${PACKTIVITY_REGISTRY_PORT:-5177} PACKTIVITY_TEST_REDIS_PORT=${PACKTIVITY_TEST_REDIS_PORT:-27379}
export PACKTIVITY_TEST_RABBIT_PORT=${PACKTIVITY_TEST_RABBIT_PORT:-27675}
PACKAGES=git,make,python3,python3-venv,ca-certificates # as README.md says

make_system() { # make_system FOLDER
  local system=$1/system file
  mkdir -p "$1"
  { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null || true; } |
    mmdebstrap --quiet --variant=apt --include=$PACKAGES --aptopt='Acquire::Languages "none"' $SUITE "$system" -
  for file in /etc/resolv.conf /etc/hosts /etc/pip.conf; do [ ! -e "$file" ] || cp -L "$file" "$system$file"; done
  [ -e "$system/etc/pip.conf" ] || ! [ -e ~/.config/pip/pip.conf ] || cp ~/.config/pip/pip.conf "$system/etc/pip.conf"
  cp -rL /usr/local/share/ca-certificates/. "$system/usr/local/share/ca-certificates/" 2>/dev/null || true
  cp -L /etc/ssl/certs/ca-certificates.crt "$system/etc/ssl/certs/ca-certificates.crt"
  chroot "$system" useradd --create-home --shell /bin/bash $PERSON
}

# --- in namespaces of its own: bare.sh inside PLACE WHO COMMAND... ---

# chroot is not enough: in one, nobody may make a user namespace, and rootless containers are made of these. A root that is
# a mount, and shared, is what a machine has. ENTER ROOT BEFORE AFTER COMMAND...: the files get the mounts before and after.
ENTER='
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(function, *arguments):
    if function(*arguments):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(arguments))
CLONE_NEWNS, MS_REC, MS_PRIVATE, MS_SHARED, MNT_DETACH = 0x20000, 0x4000, 0x40000, 0x100000, 2
root, before, after, *command = sys.argv[1:]
before, after = open(before, "w"), open(after, "w")
call(libc.unshare, CLONE_NEWNS)
call(libc.mount, b"none", b"/", None, MS_REC | MS_PRIVATE, None)
os.chdir(root)
os.mkdir(".outside")
call(libc.pivot_root, b".", b".outside")
os.chdir("/")
call(libc.umount2, b"/.outside", MNT_DETACH)
os.rmdir("/.outside")
call(libc.mount, b"none", b"/", None, MS_REC | MS_SHARED, None)
def write_mounts(file):
    lines = (line.split() for line in open("/proc/self/mountinfo"))
    file.writelines(sorted(" ".join((words[4], *words[words.index("-") + 1 :][:2])) + "\n" for words in lines))
write_mounts(before)
ended = subprocess.run(command)
write_mounts(after)
sys.exit(ended.returncode if ended.returncode >= 0 else 128 - ended.returncode)
'

settle() { # settle ROOT: /proc, /sys and /dev
  local name major minor
  mount -t proc proc "$1/proc"; mount --rbind /sys "$1/sys"; mount -t tmpfs -o mode=755 tmpfs "$1/dev"
  mkdir "$1"/dev/{pts,shm,net}
  for name in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 net/tun:10:200; do
    IFS=: read -r name major minor <<<"$name"; mknod -m 666 "$1/dev/$name" c "$major" "$minor"
  done
  mknod -m 600 "$1/dev/fuse" c 10 229 # as without udev
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$1/dev/pts"; ln -s pts/ptmx "$1/dev/ptmx"
  mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm"; ln -s /proc/self/fd "$1/dev/fd"
  for name in stdin:0 stdout:1 stderr:2; do ln -s "/proc/self/fd/${name#*:}" "$1/dev/${name%:*}"; done
}
look() { # look ROOT CLONE INTO: what the system is like; the times of folders are left out, for temporary files change them
  mkdir -p "$3"
  find "$1" \( -path "$1/proc" -o -path "$1/sys" -o -path "$1$2" \) -prune -o -type d -printf '/%P %y %m %U:%G\n' -o -type c -printf '/%P %y %m %U:%G\n' \
    -o -printf '/%P %y %m %U:%G %s bytes %TF %TT\n' | sed 's/\.[0-9]*$//' | sort >"$3/files"
  chroot "$1" dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n' | sort >"$3/packages"
  cat "$1"/etc/{passwd,group,subuid,subgid} 2>/dev/null | sort >"$3/users"
  for entry in /proc/[0-9]*; do
    [ "${entry#/proc/}" = 1 ] || [ "${entry#/proc/}" = $$ ] || [ "${entry#/proc/}" = "$BASHPID" ] || tr '\0' ' ' <"$entry/cmdline" 2>/dev/null | grep . || true
  done | grep -vE "^(find|sort|tr|grep|bash $SELF|/bin/bash $SELF)" | sort >"$3/processes" || true
}
inside() { # inside PLACE WHO COMMAND...
  local place=$1 who=$2 root=$1/root home clone status=0 began name; shift 2
  home=/root; [ "$who" = root ] || home=/home/$who
  clone=$home/packtivity
  mount -t proc proc /proc
  settle "$root"
  cp -a "$place/clone" "$root$clone"; chroot "$root" chown -R "$who:" "$clone"
  look "$root" "$clone" "$place/before"
  began=$(date +%s)
  local environment=(HOME=$home USER="$who" LOGNAME="$who" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 TERM="${TERM:-dumb}")
  for name in $(compgen -e | grep -E '^(PIP_|PACKTIVITY_|SSL_CERT|REQUESTS_CA|CURL_CA|YES$|CI$|JOBS$|(https?|no|all)_proxy$|(HTTPS?|NO|ALL)_PROXY$)'); do
    environment+=("$name=${!name}")
  done
  # shellcheck disable=SC2016  # for the shell inside
  mkdir -p "$place/after"
  python3 -c "$ENTER" "$root" "$place/before/mounts" "$place/after/mounts" setpriv --reuid="$who" --regid="$who" --init-groups env -i "${environment[@]}" \
    bash -c 'cd "$1" && shift && time "$@"' bash "$clone" "$@" || status=$?
  echo "=== exit code $status after $(($(date +%s) - began)) s, as $who on $(. "$root/etc/os-release"; echo "$PRETTY_NAME")"
  sleep 15 # the supervisor of detached tasks ends when it has had nothing to do for 10 seconds
  look "$root" "$clone" "$place/after"
  for name in packages users mounts processes files; do
    { diff "$place/before/$name" "$place/after/$name" || true; } | sed -n '/^[<>]/p' >"$place/differing"
    echo "=== $name: $(wc -l <"$place/differing") lines differ"
    if [ $name = files ]; then only_others "$place"; else cat "$place/differing"; fi
  done
  return $status
}
only_others() { # only_others PLACE: leave out the files of packages, and what dpkg, apt and their helpers keep of these
  local place=$1 root=$1/root
  { cat "$root"/var/lib/dpkg/info/*.list; chroot "$root" dpkg-query -W -f '${Conffiles}\n' | awk '{print $1}'; } | sed '/^$/d; s,^/\(bin\|sbin\|lib\)/,/usr/\1/,' | sort -u >"$place/owned"
  awk -v owned="$place/owned" 'BEGIN {while ((getline line < owned) > 0) has[line] = 1}
    {path = substr($0, 3); sub(/ [a-z] [0-7]+ [0-9]+:[0-9]+( .*)?$/, "", path)}
    path in has {files++; next}
    path ~ "^/var/(lib/(dpkg|apt|systemd/deb-systemd-[a-z-]*|ucf|pam|man-db)|cache|log/(apt|dpkg.log|alternatives.log))(/|$)" || path ~ "^/etc/(alternatives|rc.[.]d)/" {kept++; next}
    $3 == "l" && path ~ "^/usr/" {links++; next}
    {print}
    END {printf "(not shown: %d lines about files of packages, %d about what dpkg, apt and update-rc.d keep, %d about links of alternatives)\n", files, kept, links}' "$place/differing"
}
run() { # run WHO FOLDER COMMAND...
  local who=$1 folder=$2 place status=0; shift 2
  [ -d "$folder/system" ] || { echo "bare.sh: make the system first: tools/bare.sh make $folder" >&2; exit 2; }
  place=$(mktemp -d "$(realpath "$folder")/run-XXXXXX")
  mkdir "$place"/{upper,work,root}
  git clone --quiet --no-hardlinks "$CHECKOUT" "$place/clone"
  unshare --mount --pid --ipc --fork --kill-child --propagation private bash -c '
    mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"; shift; exec "$0" inside "$@"' \
    "$SELF" "$(realpath "$folder/system")" "$place" "$who" "$@" || status=$?
  [ -n "${KEEP:-}" ] || rm -rf "$place"
  return $status
}

main() {
  [ "$(id -u)" = 0 ] || { echo 'bare.sh: run it as root' >&2; exit 2; }
  case ${1:-}:$# in
    make:2) make_system "$2" ;;
    root:[0-9]* | user:[0-9]*) [ $# -ge 3 ] || { sed -n '2,8p' "$0" >&2; exit 2; }
      run "$([ "$1" = root ] && echo root || echo $PERSON)" "${@:2}" ;;
    inside:*) inside "${@:2}" ;;
    *) sed -n '2,8p' "$0" >&2; exit 2 ;;
  esac
}
main "$@"; exit # read to the end before it is run: it may be edited meanwhile
