#!/bin/bash
# Brokers and a cluster for the tests of asynchronous backends, on loopback, with ports and folders of their own.
#   tools/start-engines.sh [start]   install Redis and RabbitMQ if missing (as root, Debian), start what is not running
#   tools/start-engines.sh stop      end what it started, by pid file
#   tools/start-engines.sh env       print the variables the tests need
set -euo pipefail
STATE=${PACKTIVITY_BROKERS:-/var/lib/packtivity-brokers}
REDIS=${PACKTIVITY_TEST_REDIS_PORT:-26379}
RABBIT=${PACKTIVITY_TEST_RABBIT_PORT:-25675}
export DEBIAN_FRONTEND=noninteractive

install_missing() {
  local wanted=() policy=/usr/sbin/policy-rc.d
  type -P redis-server >/dev/null || wanted+=(redis-server)
  [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || wanted+=(rabbitmq-server)
  [ ${#wanted[@]} -gt 0 ] || return 0
  # the daemons are started here, not by their packages
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; trap "rm -f $policy" EXIT; }
  apt-cache policy redis-server | grep -q 'Candidate: [0-9]' || apt-get -qq update
  apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "${wanted[@]}" >"$STATE/install.log" 2>&1
}
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
await() { for _ in $(seq 1 600); do listens "$1" && return 0; sleep 0.1; done; echo "nothing listens on port $1" >&2; return 1; }
redis() {
  listens "$REDIS" || redis-server --port "$REDIS" --bind 127.0.0.1 --save '' --appendonly yes --appendfsync everysec \
    --dir "$STATE/redis" --daemonize yes --pidfile "$STATE/redis.pid" --logfile "$STATE/redis/log" >/dev/null
  await "$REDIS"
}
rabbit() {
  listens "$RABBIT" && return 0
  local home=$STATE/rabbit
  mkdir -p "$home"/{mnesia,log}; echo '[].' >"$home/plugins"
  chown -R rabbitmq:rabbitmq "$home"
  env RABBITMQ_NODENAME=packtivity@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$RABBIT" \
    RABBITMQ_DIST_PORT=$((RABBIT + 1)) ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$((RABBIT + 2)) RABBITMQ_MNESIA_BASE="$home/mnesia" \
    RABBITMQ_LOG_BASE="$home/log" RABBITMQ_ENABLED_PLUGINS_FILE="$home/plugins" RABBITMQ_PID_FILE="$home/pid" HOME="$home" \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}' \
    setsid setpriv --reuid=rabbitmq --regid=rabbitmq --clear-groups /usr/lib/rabbitmq/bin/rabbitmq-server >"$home/out.log" 2>&1 </dev/null &
  disown
  await "$RABBIT"
}
stop() {
  local file
  for file in "$STATE/redis.pid" "$STATE/rabbit/pid"; do
    [ ! -s "$file" ] || kill "$(cat "$file")" 2>/dev/null || true
    rm -f "$file"
  done
}
case ${1:-start} in
  start) mkdir -p "$STATE/redis"; chmod 755 "$STATE"; install_missing; redis; rabbit ;;
  stop) stop ;;
  env) echo "export PACKTIVITY_TEST_REDIS=redis://127.0.0.1:$REDIS PACKTIVITY_TEST_RABBIT=amqp://guest:guest@127.0.0.1:$RABBIT//" ;;
  *) sed -n '2,6p' "$0" >&2; exit 2 ;;
esac
