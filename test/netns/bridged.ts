/** A container on a bridge that no plugin has made: what the later plugins of a chain are given. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { CniCall, CniDocument, CniOutcome, Container, Host } from './host.ts'

const BRIDGE = 'br0'

export interface Bridged {
  readonly container: Container
  /** What the plugin before would have answered. */
  readonly result: object
  /** The container's addresses. */
  readonly v4: string
  readonly v6: string
}

/** @param number 2 to 254: its addresses are 10.1.2.number and fd00:1::number. @param ifname Of a container that is there already, or eth0 of a new one */
export function bridged(host: Host, name: string, number: number, more: { readonly container?: Container; readonly ifname?: string } = {}): Bridged {
  const { container = host.container(name), ifname = 'eth0' } = more
  const [v4, v6] = [`10.1.2.${number}`, `fd00:1::${number}`]
  host.sh(`
    if ! ip link show ${BRIDGE} >/dev/null 2>&1; then
      ip link add ${BRIDGE} type bridge; echo 0 > /proc/sys/net/ipv6/conf/${BRIDGE}/accept_dad
      ip addr add 10.1.2.1/24 dev ${BRIDGE}; ip addr add fd00:1::1/64 dev ${BRIDGE} nodad; ip link set ${BRIDGE} up
      echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
    fi
    ip link add v${number} type veth peer name ${ifname} netns ${name}
    ip link set v${number} master ${BRIDGE} up; bridge link set dev v${number} hairpin on`)
  container.exec(['ip', 'link', 'set', 'lo', 'up'])
  container.exec([
    'sh',
    '-c',
    `echo 0 > /proc/sys/net/ipv6/conf/${ifname}/accept_dad; ip link set ${ifname} up; ip addr add ${v4}/24 dev ${ifname}; ip addr add ${v6}/64 dev ${ifname} nodad
     ip route replace default via 10.1.2.1 dev ${ifname}; ip -6 route replace default via fd00:1::1 dev ${ifname}`,
  ])
  const result = {
    cniVersion: '1.1.0',
    interfaces: [{ name: BRIDGE }, { name: `v${number}` }, { name: ifname, sandbox: container.path }],
    ips: [
      { interface: 2, address: `${v4}/24`, gateway: '10.1.2.1' },
      { interface: 2, address: `${v6}/64`, gateway: 'fd00:1::1' },
    ],
    dns: {},
  }
  return { container, result, v4, v6 }
}

export interface ChainedCall extends Pick<CniCall, 'id' | 'ifname' | 'netns' | 'runtimeConfig' | 'env'> {
  readonly type: string
  /** Keys of the configuration beside version, name and type. */
  readonly conf?: object
  readonly prevResult?: object
  /** The folder of the program; ours when absent. */
  readonly folder?: string
}

/** Calls one plugin of a chain. */
export function call(host: Host, command: string, { type, conf, folder = join(process.cwd(), 'dist/bin'), ...rest }: ChainedCall): CniOutcome {
  return host.cni(command, { conf: { cniVersion: '1.1.0', name: 'net', type, ...conf }, program: join(folder, type), ...rest })
}

/** @throws AssertionError unless the call succeeds */
export function mustCall(host: Host, command: string, options: ChainedCall): CniDocument {
  const { status, stdout, json } = call(host, command, options)
  assert.equal(status, 0, `${command}: ${stdout}`)
  return json
}

/**
 * Counts the programs of iptables and nft that run from now on.
 * @returns A function that tells the names since it was asked last
 */
export function countPrograms(host: Host): () => readonly string[] {
  host.sh(`
    for real in /usr/sbin/xtables-nft-multi /usr/sbin/nft; do
      name=$(basename $real); cp $real /run/$name.real
      printf '#!/bin/bash\\necho "$(basename "$0")" >> /run/programs\\nexec -a "$(basename "$0")" /run/%s.real "$@"\\n' $name > /run/$name.wrapper
      chmod 755 /run/$name.wrapper
      mount --bind /run/$name.wrapper $real
    done`)
  return () => host.sh('cat /run/programs 2>/dev/null; rm -f /run/programs').split('\n').filter(Boolean)
}
