/** Real DHCP servers on the machine outside, containers on the host's uplink, and the daemon that gets leases for them. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { sleep } from '../../src/sys/time.ts'
import type { CniCall, Container, Host } from './host.ts'
import { eventually, type Place } from './machine.ts'

export const DHCP = join(process.cwd(), 'dist/bin/dhcp')
export const DHCP_NETWORK = { cniVersion: '1.1.0', name: 'lan', type: 'macvlan', ipam: { type: 'dhcp' } }

/** An emulated processor takes seconds for a start of node. */
const SETTLED_MS = 50
const STARTS_MS = 60_000

/** A process whose words are kept. */
export class Spoken {
  readonly #process: ChildProcess
  readonly #ended: Promise<number>
  #log = ''

  private constructor(process: ChildProcess) {
    this.#process = process
    this.#ended = new Promise((resolve) => process.once('exit', (status) => resolve(status ?? 137)))
    for (const stream of [process.stdout, process.stderr]) {
      stream?.on('data', (data) => {
        this.#log += data
      })
    }
  }

  /** Returns when it has said that it serves. */
  static async start(place: Place, argv: readonly string[], serving: RegExp): Promise<Spoken> {
    const spoken = new Spoken(place.start(argv))
    await spoken.says(serving, 1, STARTS_MS)
    return spoken
  }

  get log(): string {
    return this.#log
  }

  /** Waits until it says something. @param times How often. */
  async says(pattern: RegExp, times = 1, limitMs?: number): Promise<void> {
    const count = () => this.#log.split('\n').filter((line) => pattern.test(line)).length
    try {
      await eventually(`${pattern} is said`, () => count() >= times || this.#process.exitCode !== null, limitMs)
      assert.ok(count() >= times, 'it has ended')
    } catch (error) {
      throw new Error(`${pattern} is said ${count()} times in:\n${this.#log}`, { cause: error })
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal)
  }

  /** @returns Its exit status */
  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number> {
    this.#process.kill(signal)
    return this.#ended
  }
}

const LEASES = '/run/udhcpd.leases'
/** udhcpd writes the time; then seconds that are left, address, hardware address and name of each. */
const HEAD_SIZE = 8
const LEASE_SIZE = 36

/** For leases of seconds. It asks by ARP whether an address is free, for a short while here. */
export function startUdhcpd(host: Host, lease: number, ...more: readonly string[]): Promise<Spoken> {
  const lines = [
    'start 10.99.0.100',
    'end 10.99.0.110',
    'max_leases 11',
    'interface uplink',
    `lease_file ${LEASES}`,
    'pidfile /run/udhcpd.pid',
    'min_lease 1',
  ]
  const text = [...lines, 'option subnet 255.255.255.0', 'option router 10.99.0.2', `option lease ${lease}`, ...more].map((line) => `${line}\n`)
  writeFileSync(host.outside.path('/run/udhcpd.conf'), text.join(''))
  return Spoken.start(host.outside, ['sh', '-c', `touch ${LEASES}; exec busybox udhcpd -f -a 1 /run/udhcpd.conf`], /started/)
}

/** @returns The seconds for which udhcpd has still given its addresses away; 0 for what was released. */
export function givenByUdhcpd(host: Host, server: Spoken): ReadonlyMap<string, number> {
  const path = host.outside.path(LEASES)
  writeFileSync(path, '')
  server.signal('SIGUSR1')
  const bytes = readSettled(path)
  const found = new Map<string, number>()
  for (let at = HEAD_SIZE; at + LEASE_SIZE <= bytes.length; at += LEASE_SIZE)
    found.set([...bytes.subarray(at + 4, at + 8)].join('.'), bytes.readUInt32BE(at))
  return found
}

/** It writes head and leases one after the other: what has not grown for a while is whole. */
function readSettled(path: string): Buffer {
  let bytes = Buffer.alloc(0)
  for (const deadline = Date.now() + 5000; Date.now() < deadline; sleep(SETTLED_MS)) {
    const former = bytes.length
    bytes = readFileSync(path)
    if (bytes.length >= HEAD_SIZE && bytes.length === former) return bytes
  }
  return bytes
}

/** A second opinion on what is asked for, since it says so; its leases last two minutes at least. */
export function startDnsmasq(host: Host, ...more: readonly string[]): Promise<Spoken> {
  const files = ['--conf-file=/dev/null', '--dhcp-leasefile=/run/dnsmasq.leases', '--pid-file=/run/dnsmasq.pid']
  const argv = [
    'dnsmasq',
    '--keep-in-foreground',
    '--user=root',
    '--port=0',
    '--log-facility=-',
    '--log-dhcp',
    '--no-ping',
    '--interface=uplink',
    ...files,
  ]
  return Spoken.start(host.outside, [...argv, ...more], /sockets bound|DHCP, IP range/)
}

/** Does not wait long for servers unless it is told to. */
export function startDaemon(host: Host, ...words: readonly string[]): Promise<Spoken> {
  return Spoken.start(host, [DHCP, 'daemon', '-resendmax', '300ms', '--resendtimeout=5s', ...words], /serving/)
}

/** A container with a macvlan interface, as the plugin of that type hands it to IPAM: down, without an address. */
export function macvlanContainer(host: Host, name: string): { readonly container: Container; readonly call: CniCall } {
  const container = host.container(name)
  host.exec(['ip', 'link', 'add', `mv-${name}`, 'link', 'uplink', 'netns', name, 'type', 'macvlan', 'mode', 'bridge'])
  container.exec(['ip', 'link', 'set', `mv-${name}`, 'name', 'eth0'])
  return { container, call: { id: name, netns: container, program: DHCP, conf: DHCP_NETWORK } }
}

/** @returns The IPv4 addresses of eth0. */
export function addressesOf(container: Container): readonly string[] {
  const [link] = container.json<{ addr_info: { local: string; prefixlen: number; family: string }[] }>('ip', '-j', 'addr', 'show', 'dev', 'eth0')
  return (link?.addr_info ?? []).filter(({ family }) => family === 'inet').map(({ local, prefixlen }) => `${local}/${prefixlen}`)
}
