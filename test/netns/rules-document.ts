/** docs/rules.md, from the rules that a throw-away host has in each scenario. */
import assert from 'node:assert/strict'
import { dirname } from 'node:path'
import { Host } from './host.ts'
import { SCENARIOS, type Scenario, SUBNET_FILE } from './rules-scenarios.ts'

/** A printed table: what is there whatever is attached, and what the attachments of a scenario made of it. */
interface Rules {
  readonly constant: string
  readonly own: string
}

interface Shown {
  readonly scenario: Scenario
  readonly nft: Rules
  /** The table of the guard, whole; empty without. */
  readonly guard: string
  readonly iptables: Rules
  readonly ip6tables: Rules
}

/** Others may print the same rules in other words. */
export const VERSIONS = 'nft 1.0.6, iptables-nft 1.8.9'

const NOTHING: Rules = { constant: '', own: '' }

/** @returns The whole document. */
export async function rulesDocument(): Promise<string> {
  const shown: Shown[] = []
  for (const scenario of SCENARIOS) shown.push(await show(scenario))
  const constant = (tool: 'nft' | 'iptables' | 'ip6tables') => {
    const texts = new Set(shown.map((entry) => entry[tool].constant).filter((text) => text !== ''))
    assert.equal(texts.size, 1, `What ${tool} prints of the constant part depends on the scenario:\n${[...texts].join('\n\n')}`)
    return [...texts].join('')
  }
  const start = [
    INTRODUCTION,
    '## What is always there: nftables',
    CONSTANT_NFT,
    fence('nft -s list table inet tsnet', constant('nft')),
    '## What is always there: iptables',
    CONSTANT_IPTABLES,
    fence('iptables-save', constant('iptables')),
    fence('ip6tables-save', constant('ip6tables')),
  ]
  return `${[...start, ...shown.map(section)].join('\n\n')}\n`
}

const INTRODUCTION = `# The rules

<!-- Written by test/netns/rules.test.ts from the rules of real hosts: edit that test's scenarios, not this file. -->

What tsnet writes for the backend \`nftables\` and for the backend \`iptables\`, as \`nft -s list\` and \`iptables-save\` print it: tsnet's own
lines, without counters (${VERSIONS}). A test attaches containers on throw-away hosts and fails when this file differs from what it finds there.
The host has the addresses 10.99.0.1, 10.99.0.3, fd00:99::1 and fd00:99::3.`

const CONSTANT_NFT = `The rules never change: they look a packet up in sets and maps, and an attachment only adds elements to those, so that a packet costs
the same with one published port and with ten thousand. The table goes with the last container, unless \`tsnet-user\` has rules.

- \`guard\`: what another link than \`lo\` sends to 127.0.0.0/8 is dropped.
- \`prerouting\`, \`output\`: a packet to an address of the host goes through \`publish\`. Where a port is limited to some clients, others find
  nothing published. A specific host address comes before any, and a single port before a range.
- \`forward\`: your rules in \`tsnet-user\` come first. Packets of a connection that stands are done then. \`from\` says what a packet from a bridge
  meets: one that belongs to no connection is dropped, and from an internal network every one that leaves the bridge. \`to\` says what a packet to
  a bridge meets: it passes if it came by a published port, stays on its bridge, goes to a port that is open at the container's own address,
  or has a trusted source; the rest is dropped.
- \`postrouting\`: who gets which address as source.

The sections below show only the sets and maps that have elements.`

const CONSTANT_IPTABLES = `A jump out of each built-in chain, and tsnet's chains; your rules go into \`TSNET-USER\`, which comes first. A family has them as soon as a network has a subnet of it. The sections below show
only what is added to this.`

async function show(scenario: Scenario): Promise<Shown> {
  const native = await withScenario(scenario, 'nftables', (host) => ({
    nft: nftRules(host.exec(['nft', '-s', 'list', 'table', 'inet', 'tsnet'])),
    guard: untab(host.run(['nft', '-s', 'list', 'table', 'bridge', 'tsnet']).stdout),
  }))
  const [iptables = NOTHING, ip6tables = NOTHING] = await withScenario(scenario, 'iptables', (host) =>
    ['iptables-save', 'ip6tables-save'].map((saver) => iptablesRules(host.exec([saver]))),
  )
  return { scenario, ...native, iptables, ip6tables }
}

/** A host of its own for each, so that every address is the first of its range. */
async function withScenario<T>(scenario: Scenario, backend: string, read: (host: Host) => T): Promise<T> {
  const host = await Host.start()
  try {
    host.exec(['mkdir', '-p', dirname(SUBNET_FILE.path)])
    host.exec(['tee', SUBNET_FILE.path], { input: SUBNET_FILE.text })
    for (const { id, network, ports = [] } of scenario.attachments) {
      host.mustCni('ADD', { id, netns: host.container(id), conf: { ...network, backend }, runtimeConfig: { portMappings: ports } })
    }
    return read(host)
  } finally {
    await host.stop()
  }
}

/** Takes a printed table apart: the table without elements, and the sets and maps that have some. */
function nftRules(printed: string): Rules {
  const elements = /\n\t\telements = \{[^}]*\}/g
  const filled = printed.match(/^\t(set|map) [\s\S]*?^\t\}$/gm)?.filter((block) => block.search(elements) >= 0) ?? []
  return { constant: untab(printed.replaceAll(elements, '')), own: untab(filled.join('\n').replaceAll(/^\t/gm, '')) }
}

/** Takes what a saver printed apart: our lines that name no network or container, and those that do, below their table's name. */
function iptablesRules(printed: string): Rules {
  const tables = printed
    .split(/^(?=\*)/m)
    .slice(1)
    .map((text) => text.split('\n').map((line) => line.replace(/ \[\d+:\d+\]$/, '')))
  const names = /\bbr-|"tsnet:|TSNET-MASQ -s /
  const kept = (wanted: (line: string) => boolean) =>
    tables
      .map(([name = '', ...lines]) => [name, ...lines.filter((line) => /^(:|-A ).*TSNET/.test(line) && wanted(line))])
      .filter((lines) => lines.length > 1)
      .map((lines) => lines.join('\n'))
      .join('\n')
  return { constant: kept((line) => !names.test(line)), own: kept((line) => names.test(line)) }
}

function section({ scenario, nft, guard, iptables, ip6tables }: Shown): string {
  const blocks = [fence('nft -s list table inet tsnet', nft.own)]
  if (guard !== '') blocks.push(fence('nft -s list table bridge tsnet', guard))
  if (iptables.own !== '') blocks.push(fence('iptables-save', iptables.own))
  if (ip6tables.own !== '') blocks.push(fence('ip6tables-save', ip6tables.own))
  return [`## ${scenario.title}`, wrap(scenario.given), wrap(scenario.meaning), ...blocks].join('\n\n')
}

function fence(command: string, text: string): string {
  return `\`\`\`\n# ${command}\n${text}\n\`\`\``
}

function untab(text: string): string {
  const aligned = text.replaceAll(/\t {5}(?=\S)/g, ' '.repeat('elements = { '.length))
  return aligned.trim().replaceAll('\t', '    ')
}

function wrap(text: string): string {
  return text.replaceAll(/(.{1,140})( |$)/g, '$1\n').trim()
}
