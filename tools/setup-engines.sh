#!/bin/bash
# Container engines for the tests: Docker, Podman, Apptainer and an image registry, all on loopback, with two images made
# from Debian packages; and the shells and tools that tests use. As root, on Debian or Ubuntu. `make engines` calls it.
#   tools/setup-engines.sh [start]   install what is missing, start the daemons, build and push the images; does nothing twice
#   tools/setup-engines.sh plan      say what start would change
#   tools/setup-engines.sh stop      take everything back but packages
#   tools/setup-engines.sh packages  print the packages it has installed: named, or all
#   tools/setup-engines.sh env       print the variables the tests need
set -euo pipefail
STATE=${PACKTIVITY_ENGINES:-/var/lib/packtivity-engines}
REGISTRY=127.0.0.1:${PACKTIVITY_REGISTRY_PORT:-5077}
SOCKET=$STATE/run/docker.sock
TESTER=packtester
RUNTIME_DIR=/run/$TESTER # short: Podman's clean-up refuses a runroot of more than 50 characters, and runs then wait 20 s
TOOLS=$(cd "$(dirname "$0")" && pwd)
export SOURCE_DATE_EPOCH=1700000000 DOCKER_HOST=unix://$SOCKET
unset CONTAINERS_CONF CONTAINERS_STORAGE_CONF
WANTED=(podman runc conmon catatonit docker.io tini iptables busybox-static skopeo docker-registry mmdebstrap curl
  uidmap slirp4netns fuse-overlayfs squashfs-tools squashfuse patchelf ca-certificates tzdata openssl zsh fish) # tzdata: Apptainer binds /etc/localtime
# shellcheck source=tools/journal.sh
. "$TOOLS/journal.sh"

step() { # step FUNCTION: quiet when it works, the end of its log when it does not
  local log=$STATE/log/$1.log began=$SECONDS status
  set +e; (set -e; "$1") >"$log" 2>&1 9>&-; status=$?; set -e # not "step || …": that would switch -e off inside
  [ $status != 0 ] || { echo "setup-engines: $1 ($((SECONDS - began)) s)"; return 0; }
  echo "setup-engines: $1 failed; the end of $log:" >&2; tail -n 30 "$log" >&2
  [ "$1" = apptainer ] || exit 1
  echo 'setup-engines: going on without Apptainer' >&2; tail -n 3 "$log" >"$STATE/no-apptainer"
}
mirror() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | sort | uniq -c | sort -rn | awk 'NR==1 {print $2}'; }
await() { # await NAME COMMAND...: until the command works or the daemon is dead
  local name=$1; shift
  for _ in $(seq 1000); do "$@" >/dev/null 2>&1 && return; running "$name" || break; sleep 0.02; done
  tail -n 20 "$STATE/log/$name.log"; return 1
}
packages() { install_packages $(missing_packages "${WANTED[@]}"); } # names have no blanks
storage() { # engines sync a lot: storage in memory takes a third off each run
  note mount "$STATE/mem"; mkdir -p "$STATE/mem"
  mountpoint -q "$STATE/mem" || mount -t tmpfs -o size=6g,mode=755 tmpfs "$STATE/mem"
}
tester() { # the ordinary user of the tests; in the docker group, with subordinate ids for rootless Podman
  getent group docker >/dev/null || { note group docker; groupadd --system docker; }
  id $TESTER >/dev/null 2>&1 || note user $TESTER
  id $TESTER >/dev/null 2>&1 || useradd --no-create-home --home-dir "$STATE/mem/home" --shell /bin/sh --groups docker $TESTER
  grep -q "^$TESTER:" /etc/subuid || usermod --add-subuids 200000-265535 --add-subgids 200000-265535 $TESTER
  note scratch "$RUNTIME_DIR"
  install -d -o $TESTER -g $TESTER -m 755 "$STATE/mem/home"; install -d -o $TESTER -g $TESTER -m 700 "$RUNTIME_DIR"
  if [ -e /dev/fuse ] && [ "$(stat -c %a /dev/fuse)" != 666 ]; then note mode /dev/fuse "$(stat -c %a /dev/fuse)"; chmod 666 /dev/fuse; fi # as on every desktop: Apptainer mounts SIF files through it
}
configure() {
  local user; user=$(id -u $TESTER)
  fresh /dev/loop{0..9} /oom /run/containerd /run/runc /run/netns /var/lib/containers # what Apptainer, conmon and runc make
  fresh /etc/docker/key.json /run/docker /opt/containerd /etc/cni/net.d/cni.lock /run/libpod /dev/shm/libpod_lock "/dev/shm/libpod_rootless_lock_$user" \
    /run/containers "/run/user/$user" "/tmp/podman-run-$user" "/tmp/containers-user-$user" "/tmp/storage-run-$user" /var/lib/cni
  local files procs; files=$(ulimit -Hn); procs=$(ulimit -Hu)
  # without CAP_SYS_RESOURCE podman's own default limits (1048576) cannot be set; it lowers its own nproc to 32768 first
  [ "$files" != unlimited ] || files=1048576; { [ "$procs" != unlimited ] && [ "$procs" -le 32768 ]; } || procs=32768
  config /etc/containers/containers.conf <<-E
	[containers]
	default_ulimits = ["nofile=$files:$files", "nproc=$procs:$procs"]
	[engine]
	runtime = "runc"
	cgroup_manager = "cgroupfs"
	events_logger = "file"
	E
  config /etc/containers/storage.conf <<-E
	[storage]
	driver = "overlay"
	graphroot = "$STATE/mem/podman"
	runroot = "$STATE/mem/podman-run"
	E
  config /etc/containers/registries.conf.d/90-packtivity-tests.conf <<-E
	[[registry]]
	location = "$REGISTRY"
	insecure = true
	E
}
registry() {
  ! running docker-registry || return 0
  config "$STATE/registry.yml" <<-E
	version: 0.1
	log: {level: warn, accesslog: {disabled: true}}
	storage: {filesystem: {rootdirectory: $STATE/registry}, delete: {enabled: true}}
	http: {addr: "$REGISTRY", secret: tests}
	E
  daemon docker-registry docker-registry serve "$STATE/registry.yml"
  await docker-registry curl -sf "http://$REGISTRY/v2/"
}
dockerd() {
  ! running dockerd || return 0
  rm -f "$STATE/run/dockerd.own.pid" "$SOCKET"
  daemon dockerd /usr/sbin/dockerd --host "$DOCKER_HOST" --group docker --data-root "$STATE/mem/docker" --exec-root "$STATE/mem/docker-exec" \
    --pidfile "$STATE/run/dockerd.own.pid" --bridge=none --iptables=false --ip6tables=false --storage-driver=overlay2 --log-level=warn
  await dockerd curl -sf --unix-socket "$SOCKET" http://d/_ping
}
busybox() {
  [ ! -s "$STATE/busybox.tar" ] || return 0
  local root=$STATE/busybox applet
  rm -rf "$root"; mkdir -p "$root"/{bin,dev,etc,home,proc,root,run,srv/start,sys,tmp,usr/bin,var/tmp}
  cp /bin/busybox "$root/bin/"
  for applet in $(/bin/busybox --list); do [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"; done
  ln -s /bin/env "$root/usr/bin/env"; chmod 1777 "$root/tmp" "$root/var/tmp"
  echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"; echo 'root:x:0:' >"$root/etc/group"
  echo 'export FROM_ENVSCRIPT=yes' >"$root/etc/setup.sh"; echo 'PRETTY_NAME="packtivity test image"' >"$root/etc/os-release"
  tar --sort=name --mtime=@$SOURCE_DATE_EPOCH --owner=0 --group=0 --numeric-owner -C "$root" -cf "$STATE/busybox.new" .
  mv "$STATE/busybox.new" "$STATE/busybox.tar"
}
python() { # unpacked but not configured: a third of the time and size of an installed system
  [ ! -s "$STATE/python.tar" ] || return 0
  cat >"$STATE/hook.sh" <<-'E'
	#!/bin/sh
	set -e
	cd "$1"
	cp usr/share/base-passwd/passwd.master etc/passwd; cp usr/share/base-passwd/group.master etc/group
	ln -sf mawk usr/bin/awk; ln -sf dash bin/sh
	rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/zoneinfo var/cache/apt var/lib/apt etc/resolv.conf etc/hostname
	mkdir -p srv tmp var/tmp; chmod 1777 tmp var/tmp
	chroot . /sbin/ldconfig
	E
  chmod 755 "$STATE/hook.sh"
  TMPDIR=$STATE/mem mmdebstrap --quiet --variant=extract --extract-hook="$STATE/hook.sh" \
    --include=base-files,base-passwd,bash,coreutils,dash,grep,sed,mawk,findutils,tar,gzip,libc-bin,hostname,procps,python3-minimal,libpython3-stdlib \
    "$(. /etc/os-release; echo "$VERSION_CODENAME")" "$STATE/python.new.tar" "$(mirror)"
  mv "$STATE/python.new.tar" "$STATE/python.tar"
}
images() {
  local name
  for name in busybox python; do
    [ -s "$STATE/$name.image.tar" ] || python3 "$TOOLS/make_image.py" "$STATE/$name.tar" "$REGISTRY/test/$name:1.0" "$STATE/$name.image.tar" \
      --workdir /srv --env FROM_IMAGE=yes sh
    skopeo inspect --tls-verify=false "docker://$REGISTRY/test/$name:1.0" >/dev/null 2>&1 ||
      skopeo copy -q --dest-tls-verify=false "docker-archive:$STATE/$name.image.tar" "docker://$REGISTRY/test/$name:1.0"
  done
}
apptainer() { # Debian has it in sid only, linked against a newer glibc: that glibc comes along in a folder of its own
  if ! type -P apptainer >/dev/null; then
    local x=$STATE/sid libs=/usr/lib/x86_64-linux-gnu/apptainer/glibc f from
    from=$(mirror); rm -rf "$x"; mkdir -p "$x"/{lists,archives}/partial "$x/tree$libs"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $from sid main" >"$x/sources.list"
    local apt=("${APT[@]}" -o Dir::Etc::sourcelist="$x/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$x/lists"
      -o Dir::Cache="$x" -o Dir::Cache::archives="$x/archives" -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false) # a mirror may lag
    "${apt[@]}" update; cd "$x"; "${apt[@]}" download apptainer libc6
    dpkg-deb -R apptainer_*.deb tree; dpkg-deb -x libc6_*.deb libc
    for f in ld-linux-x86-64.so.2 libc.so.6 libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1 libresolv.so.2 libnss_files.so.2 libnss_dns.so.2; do
      cp -a "$(find libc -name $f ! -path '*/lib64/*' | head -n 1)" "tree$libs/"; done
    for f in usr/bin/apptainer usr/lib/x86_64-linux-gnu/apptainer/bin/starter; do
      patchelf --set-interpreter $libs/ld-linux-x86-64.so.2 --force-rpath --set-rpath $libs:/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu tree/$f; done
    sed -i -E 's/^(Version: .*)/\1+own1/; s/libc6 \(>= [0-9.]+\)/libc6/' tree/DEBIAN/control; rm -f tree/DEBIAN/md5sums
    dpkg-deb --root-owner-group -Zgzip -z1 -b tree own.deb; install_packages "$x/own.deb"; rm -rf "$x"
  fi
  # one capability is missing on virtual machines like these, so "full" is refused; no systemd: cgroups by the file system
  edit /etc/apptainer/apptainer.conf -E 's/^root default capabilities = .*/root default capabilities = file/; s/^systemd cgroups = .*/systemd cgroups = no/'
  command apptainer --version
}
plan() {
  local missing; mapfile -t missing < <(missing_packages "${WANTED[@]}"; type -P apptainer >/dev/null || echo 'apptainer (from Debian sid, with its libc in a folder of its own)')
  [ ${#missing[@]} = 0 ] || printf '  install   %s\n' "$(printf '%s, ' "${missing[@]}" | sed 's/, $//')" | fmt -w 120 -t
  running dockerd || echo "  start     dockerd on $SOCKET"
  running docker-registry || echo "  start     docker-registry on $REGISTRY"
  mountpoint -q "$STATE/mem" || echo "  mount     a tmpfs of up to 6 GB on $STATE/mem"
  id $TESTER >/dev/null 2>&1 || echo "  add       the user $TESTER, in the group docker, with subordinate ids 200000-265535 in /etc/subuid and /etc/subgid"
  [ -d "$STATE" ] || echo "  write     $STATE, $RUNTIME_DIR"
  [ -e /etc/containers/registries.conf.d/90-packtivity-tests.conf ] ||
    echo '  write     containers.conf, storage.conf, registries.conf.d/90-packtivity-tests.conf in /etc/containers, unless others wrote them'
  grep -q '^systemd cgroups = no' /etc/apptainer/apptainer.conf 2>/dev/null || echo '  change    two lines of /etc/apptainer/apptainer.conf'
  [ ! -e /dev/fuse ] || [ "$(stat -c %a /dev/fuse)" = 666 ] || echo '  change    /dev/fuse, for all to read and write'
}
stop() {
  ! running dockerd || ! type -P docker >/dev/null || docker ps -aq | xargs -r docker rm -f >/dev/null
  ! head -n 1 /etc/containers/storage.conf 2>/dev/null | grep -qxF "$MARK" || ! type -P podman >/dev/null || podman rm -fa -t 0 >/dev/null 2>&1 || true
  take_back
  find /sys/fs/cgroup -depth -type d \( -name libpod_parent -o -path '*/libpod_parent/*' -o -path '/sys/fs/cgroup*/docker*' \) -exec rmdir {} + 2>/dev/null || true
}

case ${1:-start} in
  start)
    [ "$(id -u)" = 0 ] || { echo 'setup-engines: run it as root' >&2; exit 1; }
    mkdir -p "$STATE"/{log,run}; exec 9>"$STATE/run/lock"; flock 9
    rm -f "$STATE/no-apptainer"
    for part in packages storage tester configure registry dockerd busybox python images apptainer; do step $part; done ;;
  plan) plan ;;
  stop) stop ;;
  packages) packages_of "${2:-all}" ;;
  env)
    echo "export DOCKER_HOST=$DOCKER_HOST PACKTIVITY_TEST_REGISTRY=$REGISTRY PACKTIVITY_TEST_USER=$TESTER PACKTIVITY_TEST_HOME=$STATE/mem/home PACKTIVITY_TEST_RUNTIME_DIR=$RUNTIME_DIR" ;;
  *) sed -n '2,9p' "$0" >&2; exit 2 ;;
esac
