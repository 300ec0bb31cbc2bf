#!/usr/bin/env bash
# Real runtimes from the distribution's packages with dist/bin as their CNI_PATH: podman, containerd (ctr and CRI), libcni, and runc and crun with a hook.
# Everything lives in private mount, network, process and cgroup namespaces, and ends with this script: what the runtimes
# write goes to tmpfs or to the upper folder of an overlay. No image registry is asked.
# `run.sh [podman|ctr|cri|libcni|hook]…` runs only those. Exit status 0 only if no check failed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
limit=${LIMIT:-170} # seconds

# Unified cgroups where they have the controllers; else the older hierarchies, one for each.
hierarchies() {
  if grep -qw cpu "$1/cgroup.controllers"; then echo unified; return; fi
  awk -F: '$2 != "" { print $2 }' /proc/self/cgroup
}
# mount_cgroups FOLDER: all of them, one folder each
mount_cgroups() {
  mkdir -p "$1"
  mount -t tmpfs tmpfs "$1"
  mkdir "$1/unified" && mount -t cgroup2 cgroup2 "$1/unified"
  local names
  names=$(hierarchies "$1/unified")
  [ "$names" != unified ] || return 0
  umount "$1/unified" && rmdir "$1/unified"
  for name in $names; do
    mkdir "$1/${name#name=}"
    case $name in name=*) mount -t cgroup -o "none,$name" cgroup "$1/${name#name=}" ;; *) mount -t cgroup -o "$name" cgroup "$1/$name" ;; esac
  done
}

case ${1:-} in
--cgroup) # in a private mount namespace: `make` or `remove` the cgroup that the suite lives in
  mount_cgroups /mnt
  for folder in /mnt/*; do
    if [ "$2" = make ]; then
      echo '+cpu +memory +pids +cpuset' >"$folder/cgroup.subtree_control" || true
      mkdir "$folder/$CGROUP"
      for file in cpuset.cpus cpuset.mems; do [ ! -e "$folder/tasks" ] || [ ! -e "$folder/$file" ] || cat "$folder/$file" >"$folder/$CGROUP/$file"; done
    else
      for _ in 1 2 3 4 5; do find "$folder/$CGROUP" -depth -type d -exec rmdir {} + && break || sleep 0.2; done
    fi
  done 2>/dev/null
  exit 0
  ;;
--held) # in the namespaces, as process 1: enter the cgroup that becomes the root of the next namespace
  shift
  mount -t tmpfs tmpfs /run
  mount_cgroups /run/cgroup
  for folder in /run/cgroup/*; do echo $$ >"$folder/$CGROUP/cgroup.procs"; done
  umount -R /run/cgroup
  exec unshare --cgroup bash "$here/run.sh" --inside "$@"
  ;;
--inside)
  shift
  # Every folder that a runtime writes to: private, and the machine's own files stay readable.
  mkdir /run/over && mount -t tmpfs tmpfs /run/over
  for folder in /etc /opt /var /root; do
    mkdir -p "/run/over/upper$folder" "/run/over/work$folder"
    mount -t overlay -o "lowerdir=$folder,upperdir=/run/over/upper$folder,workdir=/run/over/work$folder" overlay "$folder"
  done
  for folder in /etc/cni /etc/containers /opt/cni /var/lib/cni /var/lib/containers /var/lib/containerd /var/tmp /dev/shm; do
    mkdir -p "$folder" && mount -t tmpfs tmpfs "$folder"
  done
  mount -t sysfs sysfs /sys
  mount_cgroups /sys/fs/cgroup
  # Runtimes look for unified cgroups at the top, and a cgroup that has controllers for others holds no process.
  if [ -d /sys/fs/cgroup/unified ]; then
    umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mkdir /sys/fs/cgroup/suite && echo $$ >/sys/fs/cgroup/suite/cgroup.procs
  fi
  mkdir /run/tmp && export TMPDIR=/run/tmp

  ip link set lo up
  ip netns add outside
  ip link add uplink type veth peer name uplink netns outside
  ip address add 10.99.0.1/24 dev uplink && ip address add fd00:99::1/64 dev uplink nodad && ip link set uplink up
  ip -n outside address add 10.99.0.2/24 dev uplink && ip -n outside address add fd00:99::2/64 dev uplink nodad
  ip -n outside link set uplink up
  ip route add default via 10.99.0.2 && ip -6 route add default via fd00:99::2

  # Not exec: process 1 has to collect what the runtimes' helpers leave behind, which bash does and node does not.
  node "$here/${SCRIPT:-main.mjs}" "$@" && exit 0 || exit $?
  ;;
esac

[ "$(id -u)" -eq 0 ] || { echo 'tsnet: real runtimes need root: sudo make test-runtimes' >&2; exit 1; }
export CGROUP=tsnet-runtimes-$$
cgroup() { unshare --mount --propagation private bash "$here/run.sh" --cgroup "$1"; }
cgroup make
trap 'cgroup remove' EXIT

status=0
env -u NETCONFPATH -u TSNET_STATE_DIR -u CNI_COMMAND -u CNI_PATH -u CNI_ARGS -u XDG_RUNTIME_DIR -u CONTAINERS_CONF \
  timeout --foreground -k 2 "$limit" \
  unshare --mount --net --pid --ipc --uts --fork --kill-child --mount-proc --propagation private bash "$here/run.sh" --held "$@" || status=$?
[ "$status" -ne 124 ] && [ "$status" -ne 137 ] || echo "✘ The suite took longer than $limit seconds" >&2
exit "$status"
