#!/bin/sh
# Print the first Python that is new enough and can make virtual environments; say what to install when there is none.
set -u
too_old=""
crippled=""
for python in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14; do
  "$python" -c 'import sys' 2>/dev/null || continue
  if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    too_old="$too_old $python"
  elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    crippled="$crippled $python"
  else
    "$python" -c 'import sys; print(sys.executable)'
    exit 0
  fi
done
{
  echo "error: no Python 3.11 or later that can make virtual environments"
  [ -z "$too_old" ] || echo "  too old:$too_old"
  [ -z "$crippled" ] || echo "  without venv:$crippled"
  echo "  On Debian or Ubuntu: apt-get install python3 python3-venv"
  echo "  Elsewhere: install Python 3.11 or later, or name one: make PYTHON=/path/to/python3 ..."
} >&2
exit 1
