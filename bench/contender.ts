/** Who is measured: tsnet, and the chain of reference plugins as a runtime executes it. */
import { rmSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { type Cost, type Execution, execute, type Outcome, run, sum } from './measure.ts'

/** Of host-local. */
const LEASES = '/var/lib/cni/networks'
export const REFERENCE_FOLDER = '/usr/lib/cni'
const CNI_VERSION = '1.0.0'

/** A container before its ADD. */
export interface Container {
  readonly id: string
  /** Path of its network namespace. */
  readonly netns: string
  /** Published to port 80 of the container; none when absent. */
  readonly hostPort?: number
  /** How many host ports from `hostPort` on are published, each as a mapping of its own; default 1. */
  readonly ports?: number
}

export interface Attached {
  readonly cost: Cost
  /** The result document, which the runtime hands back at DEL. */
  readonly result: unknown
}

export interface Contender {
  readonly name: string
  /** Where the host ports of its samples begin; default: by its place in the series. */
  readonly firstPort?: number
  add(container: Container): Attached
  del(container: Container, result: unknown): Cost
  /** What a runtime executes, one after the other; at ADD each gets the result of the one before as well. */
  stages(command: Call['command'], container: Container, result?: unknown): readonly Execution[]
  /** Takes away everything that it has made, faster than by DELs one after the other; absent where DELs are fast. */
  purge?(containers: readonly Container[]): void
  /** Takes away what the contender leaves behind when its last attachment has gone. */
  forget(): void
}

interface Call {
  readonly command: 'ADD' | 'DEL'
  readonly container: Container
  readonly config: Readonly<Record<string, unknown>>
}

export interface TsnetOptions {
  /** Name of the network; default `bench`. */
  readonly network?: string
  /** What the configuration says beside the type; default nothing. */
  readonly config?: Readonly<Record<string, unknown>>
  /** How the program is run; default as it is. */
  readonly execute?: (execution: Execution) => Outcome
}

/** @param plugin Path of the program. */
export function tsnet(plugin: string, { network = 'bench', config: more = {}, execute: runner = execute }: TsnetOptions = {}): Contender {
  const config = (container: Container) => ({ cniVersion: CNI_VERSION, name: network, type: 'tsnet', ...more, ...published(container) })
  const call = (command: Call['command'], container: Container, prevResult?: unknown) =>
    callOf(plugin, { command, container, config: { ...config(container), ...(prevResult !== undefined && { prevResult }) } })
  return {
    name: 'tsnet',
    add: (container) => {
      const { stdout, ...cost } = runner(call('ADD', container))
      return { cost, result: JSON.parse(stdout) }
    },
    del: (container, result) => runner(call('DEL', container, result)),
    stages: (command, container, result) => [call(command, container, result)],
    forget: () => {},
  }
}

const bridgePlugin = (bridge: string, subnet: string) => ({
  type: 'bridge',
  bridge,
  isGateway: true,
  isDefaultGateway: true,
  ipMasq: true,
  hairpinMode: true,
  ipam: { type: 'host-local', ranges: [[{ subnet }]] },
})
const PORTMAP = { type: 'portmap', capabilities: { portMappings: true } }

export interface ReferenceOptions {
  /** Where the programs are; default those of Debian's package. */
  readonly folder?: string
  /** Name of the bridge; default `cni0`. */
  readonly bridge?: string
  /** Its addresses; default 10.88.0.0/16. */
  readonly subnet?: string
  /** Name of the network; default `reference`. */
  readonly network?: string
  /** How the programs are run; default as they are. */
  readonly execute?: (execution: Execution) => Outcome
}

/** Bridge, which executes host-local itself, then portmap with its result; the other way round at DEL. */
export function reference({
  network = 'reference',
  folder = REFERENCE_FOLDER,
  bridge: name = 'cni0',
  subnet = '10.88.0.0/16',
  execute: runner = execute,
}: ReferenceOptions = {}): Contender {
  const common = { cniVersion: CNI_VERSION, name: network }
  const stage = (path: string, plugin: object) => (command: Call['command'], container: Container, prevResult?: unknown) =>
    callOf(`${folder}/${path}`, {
      command,
      container,
      config: { ...common, ...plugin, ...(path === 'portmap' && published(container)), ...(prevResult !== undefined && { prevResult }) },
    })
  const [bridge, portmap] = [stage('bridge', bridgePlugin(name, subnet)), stage('portmap', PORTMAP)]
  return {
    name: 'reference',
    add: (container) => {
      const first = runner(bridge('ADD', container))
      const second = runner(portmap('ADD', container, JSON.parse(first.stdout)))
      return { cost: sum([first, second]), result: JSON.parse(second.stdout) }
    },
    del: (container, result) => sum([portmap, bridge].map((call) => runner(call('DEL', container, result)))),
    stages: (command, container, result) =>
      (command === 'ADD' ? [bridge, portmap] : [portmap, bridge]).map((call) => call(command, container, result)),
    purge: (containers) => {
      for (const { netns } of containers) run('ip', 'netns', 'delete', basename(netns))
      run('ip', 'link', 'delete', name)
      run('sh', '-c', 'iptables-save -t nat | grep -v CNI- | iptables-restore -T nat')
      rmSync(`${LEASES}/${network}`, { recursive: true, force: true })
    },
    forget: () => {
      run('ip', 'link', 'delete', name)
      for (const table of ['nat', 'filter']) for (const action of ['-F', '-X']) run('iptables', '-w', '-t', table, action)
    },
  }
}

function callOf(path: string, { command, container, config }: Call): Execution {
  const env = {
    PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
    CNI_COMMAND: command,
    CNI_CONTAINERID: container.id,
    CNI_NETNS: container.netns,
    CNI_IFNAME: 'eth0',
    CNI_PATH: dirname(path),
  }
  return { path, env, input: JSON.stringify(config) }
}

/** Container ports go down while host ports go up, so that no two mappings can become one range. */
function published({ hostPort, ports = 1 }: Container) {
  if (hostPort === undefined) return {}
  const mapping = (i: number) => ({ hostPort: hostPort + i, containerPort: 80 + ports - 1 - i, protocol: 'tcp' })
  return { runtimeConfig: { portMappings: Array.from({ length: ports }, (_, i) => mapping(i)) } }
}
