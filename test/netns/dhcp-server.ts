/** A real DHCP server on the machine outside, containers on the host's uplink, and the daemon that gets leases for them. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { CniCall, Container, Host } from './host.ts'
import { eventually } from './machine.ts'

export const DHCP = join(process.cwd(), 'dist/bin/dhcp')
export const DHCP_NETWORK = { cniVersion: '1.1.0', name: 'lan', type: 'macvlan', ipam: { type: 'dhcp' } }

const LEASES = '/run/udhcpd.leases'
/** udhcpd writes an address, a hardware address, a name and seconds, after its own time. */
const HEAD_SIZE = 8
const LEASE_SIZE = 36

export interface ServerOptions {
  /** Seconds. */
  readonly lease?: number
  readonly first?: string
  readonly last?: string
  /** More lines of its configuration. */
  readonly more?: readonly string[]
}

/** udhcpd on the uplink. It asks by ARP whether an address is free, for a short while here. */
export class DhcpServer {
  readonly #host: Host
  readonly #child: ChildProcess
  #log = ''

  private constructor(host: Host, child: ChildProcess) {
    this.#host = host
    this.#child = child
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (data) => {
        this.#log += data
      })
    }
  }

  static async start(host: Host, { lease = 600, first = '10.99.0.100', last = '10.99.0.110', more = [] }: ServerOptions = {}): Promise<DhcpServer> {
    const lines = [`start ${first}`, `end ${last}`, 'interface uplink', `lease_file ${LEASES}`, 'pidfile /run/udhcpd.pid', 'min_lease 1']
    const text = [...lines, 'option subnet 255.255.255.0', `option lease ${lease}`, ...more].map((line) => `${line}\n`).join('')
    writeFileSync(host.outside.path('/run/udhcpd.conf'), text)
    const server = new DhcpServer(host, host.outside.start(['sh', '-c', `touch ${LEASES}; exec busybox udhcpd -f -a 1 /run/udhcpd.conf`]))
    await eventually('the DHCP server serves', () => /started/.test(server.log))
    return server
  }

  get log(): string {
    return this.#log
  }

  /** @returns How often it has confirmed a lease of the address. */
  confirmations(address: string): number {
    return this.#log.split('\n').filter((line) => line.includes(`sending ACK to ${address}`)).length
  }

  /** @returns The seconds that it has still given to whom, by address; none for what was released. */
  leases(): ReadonlyMap<string, number> {
    this.#child.kill('SIGUSR1')
    this.#host.outside.exec(['sleep', '0.05'])
    const bytes = readFileSync(this.#host.outside.path(LEASES))
    const found = new Map<string, number>()
    for (let at = HEAD_SIZE; at + LEASE_SIZE <= bytes.length; at += LEASE_SIZE) {
      found.set([...bytes.subarray(at + 4, at + 8)].join('.'), bytes.readUInt32BE(at))
    }
    return found
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve))
    this.#child.kill('SIGKILL')
    await ended
  }
}

export interface Daemon {
  readonly process: ChildProcess
  readonly log: () => string
  /** @returns Its exit status */
  stop(signal?: NodeJS.Signals): Promise<number>
}

/** Does not wait long for servers unless it is told to. */
export async function startDaemon(host: Host, ...words: readonly string[]): Promise<Daemon> {
  const process = host.start([DHCP, 'daemon', '-resendmax', '300ms', '--resendtimeout=3s', ...words])
  let log = ''
  process.stderr?.on('data', (data) => {
    log += data
  })
  const ended = new Promise<number>((resolve) => process.once('exit', (status) => resolve(status ?? 137)))
  await eventually('the daemon serves', () => log.includes('serving') || process.exitCode !== null)
  assert.equal(process.exitCode, null, log)
  const stop = (signal: NodeJS.Signals = 'SIGTERM') => {
    process.kill(signal)
    return ended
  }
  return { process, log: () => log, stop }
}

/** A container with a macvlan interface, as the plugin of that type hands it to IPAM: down, without an address. */
export function macvlanContainer(host: Host, name: string): { readonly container: Container; readonly call: CniCall } {
  const container = host.container(name)
  host.exec(['ip', 'link', 'add', `mv-${name}`, 'link', 'uplink', 'netns', name, 'type', 'macvlan', 'mode', 'bridge'])
  container.exec(['ip', 'link', 'set', `mv-${name}`, 'name', 'eth0'])
  return { container, call: { id: name, netns: container, program: DHCP, conf: DHCP_NETWORK } }
}
