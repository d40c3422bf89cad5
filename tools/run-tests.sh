#!/bin/bash
# Run pytest so that nothing is left outside the checkout: the home and the temporary folder of the tests are new, and
# removed at the end. Tests run side by side in $JOBS processes (default 3, for two cores, as many tests wait; 0: in this one).
#   tools/run-tests.sh [PYTEST ARGUMENTS...]
set -eu
cd "$(dirname "$0")/.."
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/packtivity-XXXXXX")
export TMPDIR HOME="$TMPDIR/home" PYTHONDONTWRITEBYTECODE=1
unset XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_STATE_HOME
chmod 711 "$TMPDIR" # some tests run programs there as other users
mkdir -m 700 "$HOME"
finish() { # end what is still there of tests that were interrupted, and remove what tests left without rights as well
  local entry
  for entry in /proc/[0-9]*; do
    if grep -qsazFx "TMPDIR=$TMPDIR" "$entry/environ"; then kill -KILL "${entry#/proc/}" 2>/dev/null || true; fi
  done
  chmod -R u+rwX "$TMPDIR" 2>/dev/null || true
  rm -rf "$TMPDIR"
}
trap finish EXIT
.venv/bin/python -m pytest -n "${JOBS:-3}" --dist loadgroup --no-loadscope-reorder "$@"
