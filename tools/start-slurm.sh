#!/bin/bash
# A Slurm of one node for the tests, on loopback, with ports, keys and folders of its own; no cgroups, no database.
#   tools/start-slurm.sh [start]     install Slurm and MUNGE if missing (as root, Debian), start what is not running
#   tools/start-slurm.sh plan        say what start would change
#   tools/start-slurm.sh stop        take everything back but packages
#   tools/start-slurm.sh packages    print the packages it has installed: named, or all
#   tools/start-slurm.sh env         print the variables the tests need
#   tools/start-slurm.sh empty       start a controller that knows no job of the one before
set -euo pipefail
STATE=${PACKTIVITY_SLURM:-/var/lib/packtivity-slurm}
PORT=${PACKTIVITY_TEST_SLURM_PORT:-26817}
TOOLS=$(cd "$(dirname "$0")" && pwd)
export SLURM_CONF=$STATE/slurm.conf
# shellcheck source=tools/journal.sh
. "$TOOLS/journal.sh"

wanted() { missing_packages slurmctld slurmd slurm-client munge; }
install_missing() {
  # shellcheck disable=SC2046  # names, one word each
  install_packages $(wanted) >"$STATE/install.log" 2>&1 || { tail -n 30 "$STATE/install.log" >&2; return 1; }
}
configure() { # sixteen jobs at once, whatever the machine has; a node that does not answer is down after 15 seconds
  local host; host=$(hostname -s)
  mkdir -p "$STATE"/{ctld,spool,munge}; chmod 755 "$STATE"
  [ -s "$STATE/munge/key" ] || dd if=/dev/urandom of="$STATE/munge/key" bs=1024 count=1 status=none
  chown -R munge:munge "$STATE/munge"; chmod 400 "$STATE/munge/key"
  config "$SLURM_CONF" <<-E
	ClusterName=packtivity-tests
	SlurmctldHost=$host(127.0.0.1)
	SlurmctldPort=$PORT
	SlurmdPort=$((PORT + 1))
	SlurmUser=root
	SlurmdUser=root
	AuthType=auth/munge
	AuthInfo=socket=$STATE/munge/socket
	CredType=cred/munge
	MpiDefault=none
	SlurmdParameters=config_overrides
	ProctrackType=proctrack/linuxproc
	TaskPlugin=task/none
	JobAcctGatherType=jobacct_gather/none
	SwitchType=switch/none
	SelectType=select/cons_tres
	SelectTypeParameters=CR_CPU
	SchedulerType=sched/backfill
	SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
	ReturnToService=2
	SlurmdTimeout=15
	KillWait=2
	MinJobAge=3600
	StateSaveLocation=$STATE/ctld
	SlurmdSpoolDir=$STATE/spool
	SlurmctldPidFile=$STATE/run/slurmctld.own.pid
	SlurmdPidFile=$STATE/run/slurmd.own.pid
	AccountingStorageType=accounting_storage/none
	JobCompType=jobcomp/none
	CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
	MailProg=/bin/true
	NodeName=$host NodeAddr=127.0.0.1 CPUs=16 State=UNKNOWN
	PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
	PartitionName=short Nodes=$host MaxTime=00:01:00 State=UP OverSubscribe=NO
	E
}
munged() {
  running munged || daemon munged setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged --foreground --force \
    --key-file="$STATE/munge/key" --socket="$STATE/munge/socket" --pid-file="$STATE/munge/pid" --log-file="$STATE/munge/log" \
    --seed-file="$STATE/munge/seed"
}
slurmctld() { running slurmctld || daemon slurmctld /usr/sbin/slurmctld -D "$@"; }
slurmd() { running slurmd || daemon slurmd /usr/sbin/slurmd -D -c; }
await() { # until jobs can be run; a controller that finds jobs of the one before on a node closes it
  local found
  for _ in $(seq 200); do
    found=$(sinfo -h -p short -o %t 2>/dev/null) || found=
    case ${found%\*} in
      idle | mix | alloc) return 0 ;;
      drain | drng) scontrol update NodeName="$(hostname -s)" State=RESUME 2>/dev/null || true ;;
    esac
    sleep 0.1
  done
  tail -n 20 "$STATE"/log/slurm*.log >&2; return 1
}
plan() {
  local missing; mapfile -t missing < <(wanted)
  [ ${#missing[@]} = 0 ] || echo "  install   ${missing[*]}"
  { running munged && running slurmctld && running slurmd; } || echo "  start     Slurm on 127.0.0.1:$PORT and $((PORT + 1)), as root; MUNGE as the user of its package"
  [ -d "$STATE" ] || echo "  write     $STATE"
}
case ${1:-start} in
  start | empty)
    mkdir -p "$STATE"/{log,run}; exec 9>"$STATE/run/lock"; flock 9
    install_missing; configure; munged
    if [ "${1:-start}" = empty ]; then slurmctld -c; else slurmctld; fi
    slurmd; await ;;
  plan) plan ;;
  stop) take_back ;;
  packages) packages_of "${2:-all}" ;;
  env) echo "export SLURM_CONF=$SLURM_CONF" ;;
  *) sed -n '2,8p' "$0" >&2; exit 2 ;;
esac
