#!/bin/bash
# What `make test-engines` needs beside Python packages: says what that changes, asks, sets it up, takes it back.
#   tools/engines.sh start   at a terminal it asks; YES=1 or CI=true does not; otherwise it ends with exit code 3, nothing done
#   tools/engines.sh stop    end what was started, take back everything but packages, and list those
set -euo pipefail
cd "$(dirname "$0")/.."
NOT_CONFIRMED=3

each() { tools/setup-engines.sh "$@"; tools/start-engines.sh "$@"; tools/start-slurm.sh "$@"; }
start() {
  local changes
  if [ "$(id -u)" != 0 ] || ! type -P apt-get >/dev/null; then
    echo "engines: nothing is set up, for $([ "$(id -u)" = 0 ] && echo 'this is not Debian or Ubuntu' || echo 'only root can'); tests whose engine is not running are skipped"
    return
  fi
  changes=$(each plan)
  if [ -z "$changes" ]; then echo 'engines: running already'; return; fi
  printf 'The tests of engines change this machine; `make engines-stop` takes all of it back but packages:\n%s\n' "$changes"
  if [ "${YES:-}" = 1 ] || [ "${CI:-}" = true ]; then :
  elif [ -t 0 ]; then
    read -r -p 'Go on? [y/N] ' answer
    case $answer in [yY] | [yY][eE][sS]) ;; *) echo 'engines: nothing was changed'; exit $NOT_CONFIRMED ;; esac
  else
    echo 'engines: there is no terminal to ask at, so nothing was changed; YES=1 says yes' >&2
    exit $NOT_CONFIRMED
  fi
  each start
}

stop() {
  local all named
  all=$(each packages)
  named=$(each packages named)
  tools/start-slurm.sh stop
  tools/start-engines.sh stop
  tools/setup-engines.sh stop
  echo 'engines: nothing runs, and everything was taken back'
  [ -n "$all" ] || return 0
  echo "engines: $(wc -w <<<"$all") packages stay, with the users that they made: $(xargs <<<"$all")"
  echo "engines: to remove them: apt-get purge --autoremove $(sed 's,.*/own\.deb,apptainer,' <<<"$named" | xargs)"
}

case ${1:-} in
  start | stop) "$1" ;;
  *) sed -n '2,4p' "$0" >&2; exit 2 ;;
esac
