#!/bin/bash
# Brokers and a cluster for the tests of asynchronous backends, on loopback, with ports and folders of their own.
#   tools/start-engines.sh [start]   install Redis and RabbitMQ if missing (as root, Debian), start what is not running
#   tools/start-engines.sh plan      say what start would change
#   tools/start-engines.sh stop      take everything back but packages
#   tools/start-engines.sh packages  print the packages it has installed: named, or all
#   tools/start-engines.sh env       print the variables the tests need
set -euo pipefail
STATE=${PACKTIVITY_BROKERS:-/var/lib/packtivity-brokers}
REDIS=${PACKTIVITY_TEST_REDIS_PORT:-26379}
RABBIT=${PACKTIVITY_TEST_RABBIT_PORT:-25675}
TOOLS=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tools/journal.sh
. "$TOOLS/journal.sh"

wanted() {
  type -P redis-server >/dev/null || echo redis-server
  [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || echo rabbitmq-server
}
install_missing() {
  # shellcheck disable=SC2046  # names, one word each
  install_packages $(wanted) >"$STATE/install.log" 2>&1 || { tail -n 30 "$STATE/install.log" >&2; return 1; }
}
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
await() { for _ in $(seq 1 600); do listens "$1" && return 0; sleep 0.1; done; echo "nothing listens on port $1" >&2; return 1; }
redis() {
  listens "$REDIS" || daemon redis redis-server --port "$REDIS" --bind 127.0.0.1 --save '' --appendonly yes --appendfsync everysec \
    --dir "$STATE/redis"
  await "$REDIS"
}
rabbit() {
  listens "$RABBIT" && return 0
  local home=$STATE/rabbit
  mkdir -p "$home"/{mnesia,log}; echo '[].' >"$home/plugins"
  chown -R rabbitmq:rabbitmq "$home"
  note epmd "$((RABBIT + 2))"
  daemon rabbit env RABBITMQ_NODENAME=packtivity@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$RABBIT" \
    RABBITMQ_DIST_PORT=$((RABBIT + 1)) ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$((RABBIT + 2)) RABBITMQ_MNESIA_BASE="$home/mnesia" \
    RABBITMQ_LOG_BASE="$home/log" RABBITMQ_ENABLED_PLUGINS_FILE="$home/plugins" RABBITMQ_PID_FILE="$home/pid" HOME="$home" \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}' \
    setpriv --reuid=rabbitmq --regid=rabbitmq --clear-groups /usr/lib/rabbitmq/bin/rabbitmq-server
  await "$RABBIT"
}
plan() {
  local missing; mapfile -t missing < <(wanted)
  [ ${#missing[@]} = 0 ] || echo "  install   ${missing[*]}, with Erlang"
  listens "$REDIS" || echo "  start     Redis on 127.0.0.1:$REDIS"
  listens "$RABBIT" || echo "  start     RabbitMQ on 127.0.0.1:$RABBIT, and two ports after it for Erlang, as the user rabbitmq of its package"
  [ -d "$STATE" ] || echo "  write     $STATE"
}
stop() {
  local port; port=$(noted epmd)
  take_back
  [ -z "$port" ] || ! type -P epmd >/dev/null || epmd -port "$port" -kill >/dev/null 2>&1 || true # started by RabbitMQ, and left by it
}
case ${1:-start} in
  start) mkdir -p "$STATE"/{redis,log,run}; chmod 755 "$STATE"; install_missing; redis; rabbit ;;
  plan) plan ;;
  stop) stop ;;
  packages) packages_of "${2:-all}" ;;
  env) echo "export PACKTIVITY_TEST_REDIS=redis://127.0.0.1:$REDIS PACKTIVITY_TEST_RABBIT=amqp://guest:guest@127.0.0.1:$RABBIT//" ;;
  *) sed -n '2,7p' "$0" >&2; exit 2 ;;
esac
