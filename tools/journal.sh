# Sourced by the scripts that set engines up (with $STATE set): a change stands in $STATE/journal before it is made, one a
# line, and is taken back from there, last first. So a run that was cut short is taken back as well, and nothing else is.
JOURNAL=$STATE/journal
MARK='# written by tools/setup-engines.sh'
export DEBIAN_FRONTEND=noninteractive
APT=(apt-get -qq -o DPkg::Lock::Timeout=600 -o Dir::Cache::archives="$STATE/archives")

say() { echo "engines: $*"; }
note() { # note KIND WHAT...
  local line IFS=$'\t'
  line=$*; mkdir -p "$STATE"
  grep -qxF -- "$line" "$JOURNAL" 2>/dev/null || printf '%s\n' "$line" >>"$JOURNAL"
}
began() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; } # in clock ticks since the machine started
missing_packages() { # missing_packages NAME...: those of them that are not installed
  local p; for p in "$@"; do dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || echo "$p"; done
}
installed() { dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | awk '$1 == "ii" {print $2}' | sort; }
units() { find /etc/systemd/system /etc/systemd/user -type l 2>/dev/null | sort; }
startup() { find /etc/rc?.d -name 'S*' -printf '%f\n' 2>/dev/null | sed 's/^S[0-9]*//' | sort -u; }
quiet_services() { # no service that came since the lists were written starts with the machine
  local unit
  [ -e "$STATE/startup" ] || return 0
  for unit in $(comm -13 "$STATE/units" <(units)); do
    deb-systemd-helper disable "${unit##*/}" >/dev/null 2>&1 || true
    rm -f "$unit"
  done
  for unit in $(comm -13 "$STATE/startup" <(startup)); do update-rc.d "$unit" disable; done
  rm -f "$STATE/units" "$STATE/startup"
}
install_packages() { # install_packages NAME...: none of their services starts, now or when the machine does
  [ $# -gt 0 ] || return 0
  local name policy=/usr/sbin/policy-rc.d
  mkdir -p "$STATE/archives/partial"
  apt-cache policy "$1" | grep -q 'Candidate: [0-9]' || "${APT[@]}" update
  ! grep -q '^named' "$JOURNAL" 2>/dev/null || dpkg --configure -a # a run that was cut short
  for name in "$@"; do note named "$name"; done
  "${APT[@]}" -s install -y --no-install-recommends "$@" | awk '$1 == "Inst" {print $2}' | while read -r name; do note package "$name"; done
  if [ ! -e $policy ]; then note file $policy; printf '#!/bin/sh\n%s\nexit 101\n' "$MARK" >$policy; chmod 755 $policy; fi
  [ -e "$STATE/startup" ] || { units >"$STATE/units"; startup >"$STATE/startup"; }
  "${APT[@]}" install -y --no-install-recommends "$@" || return
  quiet_services
  if [ "$(sed -n 2p $policy)" = "$MARK" ]; then rm -f $policy; fi
  rm -rf "$STATE/archives"
}
config() { # config FILE <content: never over a file that somebody else wrote
  if [ -e "$1" ] && ! head -n 1 "$1" | grep -qF "$MARK"; then cat >/dev/null; echo "$1 is not ours: kept"; return; fi
  folder "$(dirname "$1")"; note file "$1"; { echo "$MARK"; cat; } >"$1"
}
folder() { [ -d "$1" ] || { folder "$(dirname "$1")"; note folder "$1"; mkdir "$1"; }; }
edit() { # edit FILE SED-ARGUMENTS...: the file as it was is kept
  local file=$1 new=$STATE/edited copy; shift
  copy=$STATE/saved/$(basename "$file")
  sed "$@" "$file" >"$new"
  if cmp -s "$new" "$file"; then return; fi
  mkdir -p "$STATE/saved"; [ -e "$copy" ] || cp -p "$file" "$copy"
  note edit "$file" "$copy" "$(sha256sum <"$new" | cut -c 1-64)"; cat "$new" >"$file"
}
daemon() { # daemon NAME COMMAND...: in a session of its own, known by its pid and when it began
  local name=$1; shift
  setsid "$@" >"$STATE/log/$name.log" 2>&1 </dev/null 9>&- &
  note process "$name" $! "$(began $!)"; echo $! >"$STATE/run/$name.pid"
  disown
}
running() { # running NAME [COMMAND]: nor is one that is dead and that nobody has waited for
  local pid
  pid=$(cat "$STATE/run/$1.pid" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "${2:-$1}" ] && ! grep -q '^State:.Z' "/proc/$pid/status"
}

alive() { # alive PID BEGAN: the process that began then, and not another one with its number
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # shellcheck disable=SC2086  # one word each
  set -- "$2" ${stat##*) }
  [ "$2" != Z ] && [ "${21}" = "$1" ]
}
end() { # end PID BEGAN: the process, then its session, each after $GRACE twentieths of a second
  local how
  for how in '-TERM ' '-TERM -' '-KILL -'; do
    alive "$1" "$2" || return 0
    kill "${how% *}" -- "${how#* }$1" 2>/dev/null || true
    for _ in $(seq "${GRACE:-200}"); do alive "$1" "$2" || return 0; sleep 0.05; done
  done
}
end_of_user() { # every process of a user
  local entry
  for entry in /proc/[0-9]*; do [ "$(stat -c %U "$entry" 2>/dev/null)" != "$1" ] || kill -KILL "${entry#/proc/}" 2>/dev/null || true; done
}
unmount() { # what is mounted there, and below
  local place
  findmnt -rno TARGET | awk -v top="$1" '$0 == top || index($0, top "/") == 1' | sort -r | while read -r place; do umount -l "$place" || true; done
}
undo() { # undo KIND WHAT...: does nothing where it has been undone already
  local kind=$1; shift
  case $kind in
    process) end "$2" "${3:-never}" ;;
    mount) unmount "$1" ;;
    user) if id "$1" >/dev/null 2>&1; then end_of_user "$1"; userdel "$1" 2>/dev/null || true; fi
          [ ! -e /etc/subuid ] || sed -i "/^$1:/d" /etc/subuid /etc/subgid ;;
    group) ! getent group "$1" >/dev/null || groupdel "$1" ;;
    file) ! head -n 2 "$1" 2>/dev/null | grep -qxF "$MARK" || rm -f "$1" ;;
    folder) rmdir "$1" 2>/dev/null || true ;;
    scratch) unmount "$1"; rm -rf "$1" ;;
    mode) [ ! -e "$1" ] || chmod "$2" "$1" ;;
    edit) if [ ! -e "$2" ]; then :; elif [ "$(sha256sum <"$1" | cut -c 1-64)" = "$3" ]; then cp -p "$2" "$1"; else say "$1 was changed by somebody else since: kept"; fi ;;
  esac
}
take_back() { # everything that stands in the journal, and the folder of the journal
  local kind line
  local -a parts
  [ -d "$STATE" ] || return 0
  [ -O "$STATE" ] || { say "run it as $(stat -c %U "$STATE"), who set up $STATE" >&2; exit 1; }
  quiet_services
  if [ -e "$JOURNAL" ]; then
    while IFS= read -r line; do
      IFS=$'\t' read -ra parts <<<"$line"; kind=${parts[0]}
      undo "$kind" "${parts[@]:1}" || say "this could not be taken back: $line"
    done < <(tac "$JOURNAL")
  fi
  unmount "$STATE"; rm -rf --one-file-system "$STATE"
}
packages_of() { if [ "$1" = named ]; then noted named; else comm -12 <(noted package) <(installed); fi; }
noted() { [ ! -e "$JOURNAL" ] || awk -F '\t' -v kind="$1" '$1 == kind {print $2}' "$JOURNAL" | sort -u; }
fresh() { local p; for p in "$@"; do [ -e "$p" ] || note scratch "$p"; done; } # what engines will write there is removed in the end
