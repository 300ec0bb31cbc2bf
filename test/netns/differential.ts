/**
 * The reference plugins' programs and tsnet's links, driven with the same configurations as libcni would, each on a host of its
 * own: what they answer and what they leave in the kernel and on the disk must be the same, but for what the case names.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type CniDocument, type Container, Host, hostTest } from './host.ts'
import { type Feature, skipsWithout } from './kernel-feature.ts'
import { iptablesRulesOf, withoutPassing } from './state.ts'

/** Debian's package containernetworking-plugins. */
const REFERENCE = '/usr/lib/cni'
const OURS = join(process.cwd(), 'dist/bin')

export type Side = 'reference' | 'tsnet'

export interface DifferentialCase {
  readonly name: string
  /** The plugins of a network definition in their order, each with its type. */
  readonly plugins: readonly (object & { readonly type: string })[]
  /** 1.0.0 when absent, the newest that the reference speaks. */
  readonly cniVersion?: string
  /** What a plugin before those of the list has answered. */
  readonly prevResult?: (container: Container) => object
  /** Given to each plugin, whatever capabilities it declares. */
  readonly runtimeConfig?: object
  /** CNI_ARGS. */
  readonly args?: string
  /** What the kernel has to have: `node scripts/test-vm.mjs differential` has it, `make test-vm` leaves these out for their length. */
  readonly needs?: Feature
  /** What is there before: links, bridges, files. */
  readonly prepare?: (host: Host, container: Container) => void
  /** More to be compared than {@link observe} sees; called after ADD and after DEL. */
  readonly more?: (host: Host, container: Container) => unknown
  /** Deliberate differences, each explained in docs/compatibility.md. */
  readonly differences?: readonly Difference[]
}

export interface Difference {
  /** As docs/compatibility.md names it. */
  readonly name: string
  /** @returns The line as it is to be compared; undefined takes it out. A line is `stage.place.what[which].key: value`. */
  readonly without: (line: string, side: Side) => string | undefined
}

/** One test: the case on two hosts, ADD, CHECK, DEL and DEL again on each, compared after each step. */
export function differentialTest(scenario: DifferentialCase): void {
  hostTest(`as the reference plugins do: ${scenario.name}`, async (host, t) => {
    if (scenario.needs !== undefined && skipsWithout(scenario.needs, host, t)) return
    const seen = { tsnet: run(host, 'tsnet', scenario), reference: [] as readonly string[] }
    await onAnotherHost((other) => {
      seen.reference = run(other, 'reference', scenario)
    })
    t.diagnostic(scenario.plugins.map(({ type }) => type).join(' + '))
    assertLines(seen.tsnet, seen.reference, `tsnet (+) and the reference (-) differ`)
  })
}

/** What one side makes, the other removes: nothing is left but what the reference leaves by itself. */
export function crossTest(scenario: DifferentialCase): void {
  hostTest(`what the reference plugins made tsnet removes, and the other way round: ${scenario.name}`, async (host) => {
    const left: Record<string, readonly string[]> = {}
    left['tsnet after reference'] = cross(host, scenario, 'reference', 'tsnet')
    await onAnotherHost((other) => {
      left['reference after tsnet'] = cross(other, scenario, 'tsnet', 'reference')
    })
    await onAnotherHost((other) => {
      left['reference alone'] = cross(other, scenario, 'reference', 'reference')
    })
    for (const who of ['tsnet after reference', 'reference after tsnet']) {
      assertLines(left[who] ?? [], left['reference alone'] ?? [], `${who} (+) and the reference alone (-) leave something else`)
    }
  })
}

/** Lines that occur more than once count as often. */
function assertLines(actual: readonly string[], expected: readonly string[], message: string): void {
  const more = without(actual, expected).map((line) => `+ ${line}`)
  const less = without(expected, actual).map((line) => `- ${line}`)
  assert.ok(more.length + less.length === 0, [message, ...more.slice(0, 40), ...less.slice(0, 40)].join('\n'))
}

function without(lines: readonly string[], others: readonly string[]): readonly string[] {
  const counts = new Map<string, number>()
  for (const line of others) counts.set(line, (counts.get(line) ?? 0) + 1)
  return lines.filter((line) => {
    const count = counts.get(line) ?? 0
    counts.set(line, count - 1)
    return count <= 0
  })
}

/** Calls the plugins of a definition as libcni does; one that fails ends the list. */
export class PluginList {
  readonly #host: Host
  readonly #container: Container
  readonly #scenario: DifferentialCase
  readonly #folders: Record<'ADD' | 'CHECK' | 'DEL', string>
  #result: object | undefined

  constructor(host: Host, container: Container, scenario: DifferentialCase, sides: { readonly add: Side; readonly del: Side }) {
    const folder = (side: Side) => (side === 'tsnet' ? OURS : REFERENCE)
    this.#host = host
    this.#container = container
    this.#scenario = scenario
    this.#result = scenario.prevResult?.(container)
    this.#folders = { ADD: folder(sides.add), CHECK: folder(sides.add), DEL: folder(sides.del) }
  }

  /** @returns The last plugin's answer, the statuses, and the message of one that failed. */
  run(command: 'ADD' | 'CHECK' | 'DEL', netns: Container | string = this.#container): object {
    const { plugins, cniVersion = '1.0.0', runtimeConfig, args = '' } = this.#scenario
    const order = command === 'DEL' ? [...plugins].reverse() : plugins
    const statuses: string[] = []
    for (const plugin of order) {
      const { status, json } = this.#host.cni(command, {
        netns,
        args,
        conf: { cniVersion, name: 'net', ...plugin },
        ...(runtimeConfig && { runtimeConfig }),
        ...(this.#result && { prevResult: this.#result }),
        program: join(this.#folders[command], plugin.type),
        env: { CNI_PATH: `${this.#folders[command]}:${REFERENCE}` },
      })
      statuses.push(`${plugin.type} ${status}`)
      if (status !== 0) return { statuses, failed: json.msg !== undefined }
      if (command === 'ADD') this.#result = json
    }
    return { statuses, ...(command === 'ADD' && { result: sorted(this.#result as CniDocument) }) }
  }
}

/** @returns Links, addresses, routes and rules of host and container, queueing disciplines, and the files of the reference plugins. */
export function observe(host: Host, container: Container): object {
  return {
    host: { ...networkOf(host), rules: iptablesRulesOf(host).split('\n'), bridgePorts: host.json('bridge', '-j', '-d', 'link') },
    container: {
      ...networkOf(container),
      rules: container
        .exec(['iptables-save'])
        .split('\n')
        .filter((line) => line.startsWith('-A')),
    },
    files: filesOf(host, ['/var/lib/cni', '/run/cni']),
  }
}

function networkOf(place: Host | Container): object {
  const ip = (...argv: readonly string[]) => JSON.parse(place.exec(['ip', '-j', ...argv]) || '[]', withoutPassing)
  return {
    links: ip('-d', 'link'),
    addresses: ip('addr'),
    routes4: ip('route', 'show', 'table', 'all'),
    routes6: ip('-6', 'route', 'show', 'table', 'all'),
    policy4: ip('rule'),
    policy6: ip('-6', 'rule'),
    qdiscs: place.json('tc', '-j', 'qdisc'),
  }
}

/** @returns Each file's text, by its path; without what tsnet keeps beside host-local's folders. */
function filesOf(host: Host, folders: readonly string[]): Readonly<Record<string, string>> {
  const script = `for f in $(find ${folders.join(' ')} -type f -not -path '*/.tsnet/*' 2>/dev/null | sort); do echo "=== $f"; cat "$f"; echo; done`
  const parts = host.sh(script).split(/^=== /m).slice(1)
  return Object.fromEntries(parts.map((part) => [part.slice(0, part.indexOf('\n')), part.slice(part.indexOf('\n') + 1)]))
}

function begin(host: Host, scenario: DifferentialCase): Container {
  // The reference plugins write to /var/lib/cni, which this host must not share with the machine.
  host.sh('mount -t tmpfs tmpfs /var/lib')
  const container = host.container('c1')
  scenario.prepare?.(host, container)
  return container
}

function run(host: Host, side: Side, scenario: DifferentialCase): readonly string[] {
  const container = begin(host, scenario)
  const list = new PluginList(host, container, scenario, { add: side, del: side })
  const state = () => ({ ...observe(host, container), more: scenario.more?.(host, container) })
  const stages = {
    add: list.run('ADD'),
    afterAdd: state(),
    check: list.run('CHECK'),
    del: list.run('DEL'),
    afterDel: state(),
    delAgain: list.run('DEL', ''),
    afterDelAgain: state(),
  }
  return normalise(stages, side, scenario.differences ?? [])
}

function cross(host: Host, scenario: DifferentialCase, add: Side, del: Side): readonly string[] {
  const container = begin(host, scenario)
  const list = new PluginList(host, container, scenario, { add, del })
  const made = list.run('ADD')
  const removed = list.run('DEL')
  const stages = { made: statusesOf(made), removed: statusesOf(removed), left: observe(host, container) }
  return normalise(stages, del, scenario.differences ?? [])
}

function statusesOf(outcome: object): unknown {
  return (outcome as { readonly statuses: unknown }).statuses
}

/** Names and numbers that are chosen at random become their order of appearance. */
function normalise(stages: object, side: Side, differences: readonly Difference[]): readonly string[] {
  const numbered = new Map<string, string>()
  const number = (kind: string) => (text: string) => {
    const known = numbered.get(text) ?? `${kind}#${[...numbered.values()].filter((name) => name.startsWith(`${kind}#`)).length}`
    numbered.set(text, known)
    return known
  }
  const text = JSON.stringify(stages, withoutNumbers)
    .replace(/\bveth[0-9a-f]{8}\b/g, number('veth'))
    .replace(/\b(?!ff:ff|00:00:00:00|33:33)[0-9a-f]{2}(:[0-9a-f]{2}){5}\b/g, number('mac'))
  const lines = [...flatten(JSON.parse(text), '')]
  return differences.reduce<readonly string[]>((kept, { without }) => kept.flatMap((line) => without(line, side) ?? []), lines).toSorted()
}

/** One line a value; an entry of a list is called by its name where it has one. */
function* flatten(value: unknown, path: string): Generator<string> {
  if (typeof value !== 'object' || value === null) return yield `${path}: ${JSON.stringify(value)}`
  for (const [key, entry] of Object.entries(value)) {
    const name = Array.isArray(value) ? `[${nameOf(entry) ?? key}]` : `${path === '' ? '' : '.'}${key}`
    yield* flatten(entry, path + name)
  }
}

function nameOf(entry: unknown): string | undefined {
  const { ifname, name, dst, dev } = Object(entry) as Readonly<Record<string, unknown>>
  const found = [ifname ?? name ?? dst, dst === undefined ? undefined : dev].filter((part) => typeof part === 'string')
  return found.length === 0 ? undefined : found.join(' ')
}

/** Indexes of links follow from what else was made, and from in which order. */
function withoutNumbers(key: string, value: unknown): unknown {
  return /^(ifindex|link_index|link_netnsid|bridge_id|root_id|designated_bridge|designated_root|bridge-id|root-id|gc_timer|handle)$/.test(key)
    ? undefined
    : value
}

/** Routes have no order that means something, and an empty dns (as of 1.1.1) says what an absent one says. */
function sorted({ routes, dns = {}, ...result }: CniDocument): object {
  const byText = (a: object, b: object) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)
  return { ...result, ...(routes && { routes: [...routes].sort(byText) }), ...(Object.keys(dns).length > 0 && { dns }) }
}

async function onAnotherHost(act: (host: Host) => void): Promise<void> {
  const other = await Host.start()
  try {
    act(other)
  } finally {
    await other.stop()
  }
}
