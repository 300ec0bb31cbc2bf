#!/usr/bin/env bash
# The way of a packet to a container, shown on a host that lives in throw-away namespaces: the machine's own network is
# not touched, and everything ends with this script. Exit status 0 only if every step did what it says.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
tsnet=$root/dist/bin/tsnet

if [ "${1:-}" != inside ]; then
  [ "$(id -u)" -eq 0 ] || { echo 'tsnet: the demo makes network namespaces, which needs root: sudo make demo' >&2; exit 1; }
  exec env -u NETCONFPATH -u TSNET_STATE_DIR unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private "$0" inside
fi

[ -t 1 ] && [ -z "${NO_COLOR:-}" ] && bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m' || bold='' dim='' green='' red='' plain=''
failures=0
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
show() { sed "s/^/    /"; }
typed() {
  local words="$*"
  printf '  %s$ %s%s\n' "$dim" "${words//$tsnet/tsnet}" "$plain"
}
run() {
  typed "$@"
  "$@" 2>&1 | show
  return "${PIPESTATUS[0]}"
}
ok() { printf '  %s✔%s %s\n' "$green" "$plain" "$*"; }
bad() {
  printf '  %s✘ %s%s\n' "$red" "$*" "$plain"
  failures=$((failures + 1))
}
# expect TEXT WHAT COMMAND…: the command prints TEXT
expect() {
  local text=$1 what=$2 said
  shift 2
  typed "$@"
  said=$(timeout 10 "$@" 2>&1)
  printf '%s\n' "$said" | show
  case $said in *"$text"*) ok "$what" ;; *) bad "$what: expected “$text”" ;; esac
}
# empty WHAT TEXT: there is none
empty() { if [ -z "$2" ]; then ok "no $1 left"; else bad "$1 left:"; printf '%s\n' "$2" | show; fi; }
wait_for() { for _ in $(seq 100); do "$@" >/dev/null 2>&1 && return; sleep 0.05; done; bad "waited in vain for: $*"; }
has_own_namespace() { [ "$(readlink /proc/self/ns/net)" != "$(readlink "/proc/$1/ns/net")" ]; }
listens() { ip netns exec "$1" busybox netstat -ltn | grep -q ':80 '; }
# Connections to the host's port that the kernel tracks as led to the container.
hits() { conntrack -L -p tcp --orig-port-dst 8080 2>/dev/null | grep -c 'src=10.210.0.2 .*sport=80 '; }

mount -t tmpfs tmpfs /run && mount -t sysfs sysfs /sys
ip link set lo up

step '1. A host with an uplink, and a machine outside'
ip netns add outside
ip link add eth0 type veth peer name eth0 netns outside
ip address add 10.99.0.1/24 dev eth0 && ip link set eth0 up
ip -n outside address add 10.99.0.2/24 dev eth0 && ip -n outside link set eth0 up
ip route add default via 10.99.0.2
echo '      outside 10.99.0.2 ────── eth0 10.99.0.1 host'

step '2. Two containers made by hand: a named namespace with a web server, and a process with a namespace of its own'
mkdir -p /run/www/cgi-bin
printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\nhello %%s, this is the container\\n" "$REMOTE_ADDR"\n' >/run/www/cgi-bin/hello
chmod +x /run/www/cgi-bin/hello
run ip netns add web
ip netns exec web busybox httpd -f -p 0.0.0.0:80 -h /run/www &
wait_for listens web
unshare --net sleep 1000 &
client=$!
wait_for has_own_namespace "$client"
echo "    a web server in /run/netns/web, a process $client in a namespace without a name"

step '3. tsnet gives both a network, and publishes port 80 of the first as port 8080 of the host'
run "$tsnet" attach web -p 8080:80 || bad 'attach web'
run "$tsnet" attach "pid:$client" || bad "attach pid:$client"
run "$tsnet" ls || bad 'ls'

step '4. The page, fetched from everywhere'
page=http://10.99.0.1:8080/cgi-bin/hello
before=$(hits)
tcpdump -lnte -i tsnet0 -c 6 'tcp port 80' >/run/frames 2>/run/tcpdump.log &
dump=$!
wait_for grep -q listening /run/tcpdump.log
expect 'hello 10.99.0.2' 'from outside; the container sees the client'"'"'s own address' ip netns exec outside busybox wget -q -O - "$page"
wait_for test -s /run/frames
expect 'hello 10.210.0.1' 'from the host itself, by 127.0.0.1' busybox wget -q -O - http://127.0.0.1:8080/cgi-bin/hello
expect 'hello 10.99.0.1' 'from the host itself, by its own address' busybox wget -q -O - "$page"
expect 'hello' 'from the container to itself through the published port (hairpin)' ip netns exec web busybox wget -q -O - "$page"
expect 'hello' 'from its neighbour' nsenter --net="/proc/$client/ns/net" busybox wget -q -O - "$page"
ip netns exec outside busybox httpd -f -p 0.0.0.0:80 -h /run/www &
wait_for listens outside
expect 'hello 10.99.0.1' 'and on the way out, the outside sees the host'"'"'s address (masquerading)' \
  nsenter --net="/proc/$client/ns/net" busybox wget -q -O - http://10.99.0.2/cgi-bin/hello

step '5. The hops that the packet from outside took'
after=$(hits)
echo '    eth0 (uplink)            '"$(ip -br address show eth0 | awk '{ print $3 }')"
echo '      ↓ PREROUTING, DNAT     '"$(nft list map inet tsnet published4 | sed -n 's/.*elements = { \(.*\) }/\1/p')"
[ "$after" -gt "$before" ] && ok "by this entry $((after - before)) new connections were led on" || bad "no connection was led on: $before before, $after after"
echo '    tsnet0 (bridge)          '"$(ip -br address show tsnet0 | awk '{ print $3 }')"
peer=$(ip -n web -o link show eth0 | sed 's/.*eth0@if\([0-9]*\):.*/\1/')
port=$(ip -o link show master tsnet0 | sed -n "s/^$peer: \([^@]*\)@.*/\1/p")
echo '      ↓ veth                 '"$port"
echo '    eth0 in the namespace    '"$(ip -n web -br address show eth0 | awk '{ print $3 }')"
kill "$dump" 2>/dev/null
wait "$dump" 2>/dev/null
echo '    frames on the bridge (of the first fetch):'
cut -c1-150 /run/frames | head -4 | show
[ -s /run/frames ] && ok 'the bridge carries the container'"'"'s frames' || bad 'no frame was seen on the bridge'

step '6. Detached: nothing is left'
run "$tsnet" detach web || bad 'detach web'
run "$tsnet" detach "pid:$client" || bad "detach pid:$client"
empty 'link' "$(ip -br link | grep -E 'tsn' || true)"
empty 'rule' "$({ iptables-save; ip6tables-save; nft list tables; } 2>/dev/null | grep -i tsnet || true)"
empty 'lease' "$(grep -h ' leased ' /run/tsnet/networks/*/subnet || true)"
empty 'record' "$(find /run/tsnet/attachments -name '*.json')"
empty 'published port' "$(find /run/tsnet/ports -type f ! -name lock)"
if busybox wget -q -O - http://127.0.0.1:8080/ >/dev/null 2>&1; then bad 'port 8080 still answers'; else ok 'port 8080 no longer answers'; fi

echo
if [ "$failures" -eq 0 ]; then
  printf '%sEvery step did what it says.%s Try it yourself: ip netns add web; %s attach web -p 8080:80\n' "$bold" "$plain" "$tsnet"
else
  printf '%s%d steps failed.%s\n' "$red" "$failures" "$plain"
fi
exit $((failures > 0))
