/** A throw-away host with an uplink and a machine outside, and tsnet called on it as a runtime would. */
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { eventually, Machine, type Outcome, Place, requireTools, SYSCTL_FOLDER } from './machine.ts'

export const TSNET = join(process.cwd(), 'dist/bin/tsnet')
export const LOOPBACK = join(process.cwd(), 'dist/bin/loopback')

/** Neither the Ethernet default nor anything else that could be there by chance. */
export const UPLINK_MTU = 1400

/** The host has two addresses of each family; behind the machine outside lies an address that only the default route leads to. */
export const ADDRESSES = {
  4: { host: '10.99.0.1', second: '10.99.0.3', outside: '10.99.0.2', far: '10.77.0.1', loopback: '127.0.0.1' },
  6: { host: 'fd00:99::1', second: 'fd00:99::3', outside: 'fd00:99::2', far: 'fd00:77::1', loopback: '::1' },
} as const

/** A dual-stack network without anything chosen. */
export const DUAL_STACK = {
  cniVersion: '1.1.0',
  name: 'net',
  type: 'tsnet',
  bridge: 'br-net',
  backend: process.env['TSNET_TEST_BACKEND'] ?? 'iptables',
  ipam: { ranges: [[{ subnet: '10.50.0.0/24' }], [{ subnet: 'fd00:50::/64' }]] },
}

export interface CniIp {
  readonly address: string
  readonly gateway?: string
  readonly interface?: number
  readonly version?: string
}

/** Any document that a plugin prints, as far as the tests look into it. */
export interface CniDocument {
  readonly cniVersion?: string
  readonly code?: number
  readonly msg?: string
  readonly details?: string
  readonly interfaces?: readonly { readonly name: string; readonly mac?: string; readonly mtu?: number; readonly sandbox?: string }[]
  readonly ips?: readonly CniIp[]
  readonly routes?: readonly { readonly dst: string; readonly gw?: string }[]
  readonly dns?: object
  readonly supportedVersions?: readonly string[]
}

export interface CniCall {
  readonly id?: string
  readonly ifname?: string
  /** A container, or a path inside the host; empty for none. */
  readonly netns?: Container | string
  /** A text is sent as it is. */
  readonly conf?: object | string
  readonly args?: string
  readonly runtimeConfig?: object
  readonly prevResult?: object
  /** Undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly program?: string
}

export interface CniOutcome extends Outcome {
  /** What standard output holds; empty when it holds nothing. */
  readonly json: CniDocument
}

export class Container extends Place {
  readonly path: string

  constructor(host: Machine, name: string) {
    const path = `/run/netns/${name}`
    super(name, ['nsenter', '-t', String(host.pid), '-m', `--net=${host.path(path)}`, '--'])
    this.path = path
  }
}

export class Host extends Place {
  readonly machine: Machine
  readonly outside: Machine
  readonly #containers: Container[] = []

  constructor(machine: Machine, outside: Machine) {
    super('host', machine.entry)
    this.machine = machine
    this.outside = outside
  }

  static async start(): Promise<Host> {
    const host = new Host(await Machine.start('host'), await Machine.start('outside'))
    host.sh(`
      ip link add uplink mtu ${UPLINK_MTU} type veth peer name uplink mtu ${UPLINK_MTU} netns ${host.outside.pid}
      echo 0 > /proc/sys/net/ipv6/conf/uplink/accept_dad
      ip link set uplink up
      ip addr add 10.99.0.1/24 dev uplink; ip addr add 10.99.0.3/24 dev uplink
      ip addr add fd00:99::1/64 dev uplink nodad; ip addr add fd00:99::3/64 dev uplink nodad preferred_lft 0`)
    host.outside.sh(`
      echo 0 > /proc/sys/net/ipv6/conf/uplink/accept_dad
      ip link set uplink up
      ip addr add 10.99.0.2/24 dev uplink; ip addr add 10.77.0.1/32 dev lo
      ip addr add fd00:99::2/64 dev uplink nodad; ip addr add fd00:77::1/128 dev lo`)
    host.sh('ip route add default via 10.99.0.2; ip -6 route add default via fd00:99::2 dev uplink')
    // The kernel sees the carrier a moment later, and makes these routes then.
    const local = () => host.exec(['ip', '-6', 'route', 'show', 'table', 'local'])
    await eventually('the uplink carries', () => [ADDRESSES[6].host, ADDRESSES[6].second].every((address) => local().includes(`local ${address} `)))
    return host
  }

  /** Makes a network namespace as one would without a runtime. */
  container(name: string): Container {
    this.exec(['ip', 'netns', 'add', name])
    const container = new Container(this.machine, name)
    this.#containers.push(container)
    return container
  }

  cni(command: string, call: CniCall = {}): CniOutcome {
    const { argv, env, input } = this.#prepare(command, call)
    return withJson(this.run(argv, { env, input }))
  }

  /** @throws Error unless the call succeeds */
  mustCni(command: string, call: CniCall = {}): CniDocument {
    const { status, json, stdout, stderr } = this.cni(command, call)
    if (status !== 0) throw new Error(`${command} ${call.id ?? 'c1'} failed: ${stdout}${stderr}`)
    return json
  }

  /** Does not wait, so that calls can run side by side. @param killAfterMs Milliseconds after which it is killed. */
  async cniAsync(command: string, call: CniCall = {}, killAfterMs?: number): Promise<CniOutcome> {
    const { argv, env, input } = this.#prepare(command, call)
    return withJson(await this.runAsync(argv, { env, input, ...(killAfterMs !== undefined && { killAfterMs }) }))
  }

  /** @returns The words that run the plugin here under a tracer or the like, with what it reads. */
  prepare(command: string, call: CniCall = {}): { readonly argv: readonly string[]; readonly env: Record<string, string>; readonly input: string } {
    return this.#prepare(command, call)
  }

  async stop(): Promise<void> {
    for (const place of [this, ...this.#containers]) await place.endProcesses()
    await this.machine.stop()
    await this.outside.stop()
  }

  #prepare(command: string, call: CniCall) {
    const { id = 'c1', ifname = 'eth0', netns = '', conf = DUAL_STACK, args = '', runtimeConfig, prevResult, env = {}, program = TSNET } = call
    const variables = {
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
      TSNET_SYSCTL_DIR: SYSCTL_FOLDER,
      CNI_COMMAND: command,
      CNI_CONTAINERID: id,
      CNI_NETNS: typeof netns === 'string' ? netns : netns.path,
      CNI_IFNAME: ifname,
      CNI_PATH: '/opt/cni/bin',
      CNI_ARGS: args,
      ...env,
    }
    const defined = Object.entries(variables).filter((entry): entry is [string, string] => entry[1] !== undefined)
    const input =
      typeof conf === 'string' ? conf : JSON.stringify({ ...conf, ...(runtimeConfig && { runtimeConfig }), ...(prevResult && { prevResult }) })
    return { argv: [program], env: Object.fromEntries(defined), input }
  }
}

/** A test with a host of its own, which is gone afterwards however the test ends. */
export function hostTest(name: string, act: (host: Host, t: TestContext) => void | Promise<void>): void {
  const root = process.getuid?.() === 0
  test(name, { skip: root ? false : 'Network namespaces need root' }, async (t) => {
    requireTools()
    const host = await Host.start()
    try {
      await act(host, t)
    } finally {
      await host.stop()
    }
  })
}

/** Deletes a container's namespace, and waits until the kernel has taken the host's end of its veth pair away: it does so some time later. */
export async function endNamespace(host: Host, name: string): Promise<void> {
  const links = () => host.exec(['ip', '-o', 'link', 'show', 'type', 'veth']).split('\n').length
  const before = links()
  host.exec(['ip', 'netns', 'del', name])
  await eventually(`the link of "${name}" is gone`, () => links() < before)
}

/** @returns The address of a family that an ADD reported, without its prefix length. */
export function addressIn(result: CniDocument, family: 4 | 6): string {
  const ip = result.ips?.find(({ address }) => address.includes(':') === (family === 6))
  if (ip === undefined) throw new Error(`The result has no IPv${family} address: ${JSON.stringify(result)}`)
  return ip.address.replace(/\/.*/, '')
}

function withJson(outcome: Outcome): CniOutcome {
  return { ...outcome, json: outcome.stdout.trim() === '' ? {} : (JSON.parse(outcome.stdout) as CniDocument) }
}
