#!/usr/bin/env bash
# Brings the machine to where a task can run: `setup.sh build|demo|test|systemd|vm|bench|runtimes`. As root it installs missing Debian
# packages; otherwise it says exactly what to install. Then it installs the npm packages if the lockfile changed.
set -euo pipefail
cd "$(dirname "$0")/.."
task=${1:-build}

# command:package pairs; a path may be any file
# Without a compiler the build works all the same: dist/bin/ gets shell scripts.
build=()
demo=(ip:iproute2 iptables-restore:iptables ip6tables-restore:iptables nft:nftables conntrack:conntrack tcpdump:tcpdump busybox:busybox nsenter:util-linux)
test=("${demo[@]}" ping:iputils-ping nft:nftables strace:strace conntrack:conntrack socat:socat sysctl:procps python3:python3 nsenter:util-linux setpriv:util-linux
  dbus-daemon:dbus-daemon dbus-send:dbus-bin dnsmasq:dnsmasq-base make:make gcc:gcc /usr/include/stdlib.h:libc6-dev
  /usr/lib/cni/bridge:containernetworking-plugins)
systemd=(/usr/lib/systemd/systemd:systemd ip:iproute2 iptables-restore:iptables nft:nftables busybox:busybox unshare:util-linux hostname:hostname
  make:make gcc:gcc /usr/include/stdlib.h:libc6-dev)
vm=("${test[@]}" qemu-system-x86_64:qemu-system-x86)
bench=(ip:iproute2 iptables-restore:iptables strace:strace /usr/lib/cni/bridge:containernetworking-plugins make:make gcc:gcc
  /usr/include/stdlib.h:libc6-dev)
runtimes=(ip:iproute2 iptables-restore:iptables nft:nftables nsenter:util-linux busybox:busybox-static podman:podman conmon:conmon containerd:containerd
  ctr:containerd runc:runc crun:crun /usr/lib/cni/tuning:containernetworking-plugins go:golang-go /usr/share/gocode/src/github.com/containernetworking/cni/libcni:golang-github-appc-cni-dev)

die() {
  echo "tsnet: $*" >&2
  exit 1
}

node_ok() { command -v node >/dev/null && node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'; }
node_ok || die "Node.js 20.19 or newer is needed, here is $(node --version 2>/dev/null || echo none). Install it from your distribution or nodejs.org."
command -v npm >/dev/null || die 'npm is needed. Install the package npm.'

missing=()
declare -n needed=$task
for pair in "${needed[@]}"; do
  command=${pair%%:*}
  [[ $command == /* && -e $command ]] || PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || missing+=("${pair##*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    die "these programs are missing; install the packages: ${missing[*]} (Debian, Ubuntu: sudo apt-get install ${missing[*]})"
  fi
  echo "Installing ${missing[*]} …" >&2
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 || {
    cat "$log" >&2
    die "could not install ${missing[*]}"
  }
  rm -f "$log"
fi

if ! cmp -s package-lock.json node_modules/.tsnet-lock; then
  echo 'Installing npm packages …' >&2
  npm ci --silent --no-progress >&2 || die 'npm ci failed'
  cp package-lock.json node_modules/.tsnet-lock
fi
