#!/usr/bin/env bash
# Run the chain: three tasks, each fed with what the one before published.
# usage: run.sh OUTPUT_DIRECTORY [EVENTS]
# With PHENOCHAIN_SPECS=container the steps run in a container, whose image container/build.sh makes.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:?usage: run.sh OUTPUT_DIRECTORY [EVENTS]}
events=${2:-2000}
specs=$here/${PHENOCHAIN_SPECS:-.}
mkdir -p "$out"

step() { # NAME [ARGUMENTS...]: run NAME.yml in its own directory and keep what it publishes in NAME.json
  local name=$1
  shift
  echo "== $name" >&2
  packtivity-run "$specs/$name.yml" -r "$here/code" "$@" -w "$out/$name" -o "$out/$name.json"
}

# A published document is a parameter document: the next step reads it as it is.
step generate "$here/parameters/generate.yml" -p events="$events"
# In a container it sees only directories that it is given, hence -r.
step cluster "$here/parameters/cluster.yml" "$out/generate.json" -r "$out/generate"
step histogram "$here/parameters/histogram.yml" "$out/cluster.json" -r "$out/cluster"
