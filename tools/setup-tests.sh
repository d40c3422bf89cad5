#!/bin/sh
# Install what tests use besides Python packages, where this is Debian and we may; say what is missing elsewhere.
# Tests that lack one of these are skipped.
set -eu
missing=""
for tool in zsh fish; do
  command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
if [ -z "$missing" ]; then
  exit 0
elif command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  echo "Installing$missing"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # shellcheck disable=SC2086  # names, one word each
  apt-get install -qq -y --no-install-recommends $missing >/dev/null
else
  echo "Not here, so tests that need them are skipped:$missing"
fi
