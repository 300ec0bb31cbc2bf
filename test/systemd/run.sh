#!/usr/bin/env bash
# The units of packaging/ under a real systemd: process 1 of private process, mount, network, IPC, UTS and cgroup namespaces. It sees this
# machine's files read-only, with layers of memory where something is written, and of the units only systemd's own targets and journal, and
# tsnet's. It ends with the checks (main.mjs), and everything with it. Exit status 0 only if no check failed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
limit=${LIMIT:-120} # seconds

# What is mounted later may be written to again.
read_only() {
  while read -r _ target _; do mount -o remount,bind,ro "$(printf %b "$target")" 2>/dev/null || true; done </proc/self/mounts
}

layers() {
  local folder
  mkdir /run/over && mount -t tmpfs tmpfs /run/over
  for folder in /etc /opt /usr /var; do
    mkdir -p "/run/over/upper$folder" "/run/over/work$folder"
    mount -t overlay -o "lowerdir=$folder,upperdir=/run/over/upper$folder,workdir=/run/over/work$folder" overlay "$folder"
  done
  for folder in /var/tmp /var/log; do mkdir -p "$folder" && mount -t tmpfs tmpfs "$folder"; done
}

# The kernel's log and its switches, but for the network's, are the machine's.
kernel_files() {
  mkdir -p /run/dev/pts /run/dev/shm
  cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /run/dev
  cp -a /dev/null /run/dev/kmsg && cp -a /dev/null /run/dev/console
  mount --bind /run/dev /dev && mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts && mount -t tmpfs tmpfs /dev/shm
  mount -t proc proc /proc
  mount --bind /proc/sys /proc/sys && mount --bind /proc/sys/net /proc/sys/net && mount -o remount,bind,ro /proc/sys
  mount -t sysfs sysfs /sys && mount -t cgroup2 cgroup2 /sys/fs/cgroup && mount -o remount,bind,ro /sys
}

# Nothing else that this machine has installed may start.
units() {
  local folder
  mkdir /run/units
  cp -a /usr/lib/systemd/system/{*.target,systemd-exit.service,systemd-journald.service,systemd-journald.socket,systemd-journald-dev-log.socket} /run/units
  for folder in /usr/lib/systemd/system /usr/lib/systemd/system-generators /etc/systemd; do mount -t tmpfs tmpfs "$folder"; done
  cp -a /run/units/. /usr/lib/systemd/system
  mkdir /usr/lib/systemd/system/sysinit.target.wants /etc/systemd/system
  ln -s ../systemd-journald.service ../systemd-journald.socket ../systemd-journald-dev-log.socket /usr/lib/systemd/system/sysinit.target.wants
  rm -f /etc/machine-id && echo 0123456789abcdef0123456789abcdef >/etc/machine-id
  cat >/etc/systemd/system/checks.service <<UNIT
[Unit]
After=multi-user.target
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
ExecStart=$(command -v node) "$here/main.mjs"
StandardOutput=file:$OUTPUT
StandardError=inherit
UNIT
  cat >/etc/systemd/system/boot.target <<UNIT
[Unit]
Requires=multi-user.target
Wants=checks.service
After=multi-user.target
UNIT
}

# As the documentation says it, to where the units look for the programs.
install_tsnet() {
  mkdir -p /opt/cni/bin && cp -a "$root/dist/bin/." /opt/cni/bin
  ln -sf "$root/dist/bin/tsnet" /usr/local/bin/tsnet
  cp "$root"/packaging/tsnet-* /etc/systemd/system
  systemctl -q enable tsnet-agent.socket
}

case ${1:-} in
--cgroup) # in a mount namespace of its own: `make` or `remove` the cgroup that becomes the root of systemd's
  mount -t cgroup2 cgroup2 /mnt
  [ "$2" != make ] || exec mkdir "/mnt/$CGROUP"
  for _ in 1 2 3 4 5; do find "/mnt/$CGROUP" -depth -type d -exec rmdir {} + 2>/dev/null && break || sleep 0.2; done
  exit
  ;;
--held) # in the other namespaces: enter that cgroup
  mount -t tmpfs tmpfs /mnt && mkdir /mnt/cgroup && mount -t cgroup2 cgroup2 /mnt/cgroup
  echo $$ >"/mnt/cgroup/$CGROUP/cgroup.procs"
  umount -R /mnt
  exec unshare --cgroup bash "$here/run.sh" --inside
  ;;
--inside)
  hostname tsnet-systemd
  read_only
  mount -t tmpfs tmpfs /run
  mkdir /run/test && mount --bind "$(dirname "$OUTPUT")" /run/test && OUTPUT=/run/test/output
  layers
  kernel_files
  units
  install_tsnet
  exec setpriv --bounding-set=-sys_module,-sys_time,-sys_boot,-sys_rawio \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=tsnet /usr/lib/systemd/systemd --unit=boot.target --show-status=0
  ;;
esac

[ "$(id -u)" -eq 0 ] || { echo 'tsnet: a systemd of its own needs root: sudo make test-systemd' >&2; exit 1; }
export CGROUP=tsnet-systemd-$$
folder=$(mktemp -d)
export OUTPUT=$folder/output
mkfifo "$OUTPUT"
cgroup() { unshare --mount --propagation private bash "$here/run.sh" --cgroup "$1"; }
trap 'cgroup remove; rm -rf "$folder"' EXIT
cgroup make

# Held open until everything has ended, so that the reader sees all of it, and then its end.
cat "$OUTPUT" &
exec 3>"$OUTPUT"
status=0
timeout --foreground -k 2 "$limit" \
  unshare --mount --net --pid --ipc --uts --fork --kill-child --mount-proc --propagation private bash "$here/run.sh" --held 3>&- || status=$?
exec 3>&-
wait
[ "$status" -eq 0 ] || [ "$SECONDS" -lt "$limit" ] || echo "✘ The checks took longer than $limit seconds" >&2
exit "$status"
