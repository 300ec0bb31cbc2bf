/** An ADD through the agent where much stands already: many attachments, many leases. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { startAgent, warmUp } from './agent.ts'
import { type Contender, REFERENCE_FOLDER, reference, tsnet } from './contender.ts'
import { preparePool } from './ipam-case.ts'
import { execute } from './measure.ts'
import { type CaseOptions, container, interleave, type Row, rowOf } from './series.ts'
import { makeSideHost } from './side-host.ts'

const STANDING = 500
const QUICK_STANDING = 20
const FIRST_PORT = 20_000
const FIRST_STANDING = 30_000
const STANDING_TARGETS = { own: 1.3, reference: 0.03 }

const LEASES = 60_000
const IPAM_TARGET = 0.02
const HOST_LOCAL = '/var/lib/cni/networks'

/** Hosts side by side: with one attachment, for the first makes the bridge, with many, and with many of the reference. */
export function agentStandingCase(options: CaseOptions): readonly Row[] {
  const many = options.quick ? QUICK_STANDING : STANDING
  const contenders = [standing('one', 1, options), standing('many', many, options), standing('reference', many, options)]
  const [one, ours, theirs] = interleave(contenders, { ...options, forget: false })
  if (!one || !ours || !theirs) throw new Error('A series is missing')
  const label = `${many} standing, agent, nftables`
  return [
    rowOf({ case: `ADD, ${label}`, against: '1 standing', target: STANDING_TARGETS.own }, ours.adds, one.adds),
    rowOf({ case: `ADD, ${label}`, against: 'reference', target: STANDING_TARGETS.reference }, ours.adds, theirs.adds),
    rowOf({ case: `DEL, ${label}`, against: '1 standing' }, ours.dels, one.dels),
    rowOf({ case: `DEL, ${label}`, against: 'reference' }, ours.dels, theirs.dels),
  ]
}

function standing(name: string, count: number, { plugin, progress }: CaseOptions): Contender {
  const host = makeSideHost(name)
  if (name !== 'reference') startAgent(plugin, host)
  const contender =
    name === 'reference' ? reference({ execute: host.execute }) : tsnet(plugin, { config: { backend: 'nftables' }, execute: host.execute })
  for (let i = 0; i < count; i++) {
    contender.add(container(`${name}-stands-${i}`, FIRST_STANDING + i))
    if (i % 100 === 99) progress(`${i + 1} of ${count} standing attachments of "${name}"`)
  }
  if (name !== 'reference') warmUp([{ ...contender, name }])
  return { ...contender, name, firstPort: FIRST_PORT }
}

/** A whole ADD without ports against host-local alone, which does nothing but find an address. */
export function agentIpamCase(options: CaseOptions): readonly Row[] {
  startAgent(options.plugin)
  const ours = preparePool({ network: 'many', subnet: '10.104.0.0/16', leases: LEASES, released: 0 }, options)
  warmUp([ours])
  const [adds, theirs] = interleave([ours, hostLocal('many')], { ...options, forget: false, ports: false })
  if (adds === undefined || theirs === undefined) throw new Error('A series is missing')
  const taken = `${LEASES.toLocaleString('en')} leases in a /16`
  return [
    rowOf({ case: `ADD without ports, ${taken}, agent`, against: 'host-local alone', target: IPAM_TARGET }, adds.adds, theirs.adds),
    rowOf({ case: `DEL without ports, ${taken}, agent`, against: 'host-local alone' }, adds.dels, theirs.dels),
  ]
}

/** The plugin by itself, over a folder with a file for each lease, as it writes them; the next address is free. */
function hostLocal(network: string): Contender {
  mkdirSync(`${HOST_LOCAL}/${network}`, { recursive: true })
  const address = (i: number) => `10.104.${i >> 8}.${i & 255}`
  for (let i = 2; i < LEASES + 2; i++) writeFileSync(`${HOST_LOCAL}/${network}/${address(i)}`, `filler-${i}\r\neth0`)
  writeFileSync(`${HOST_LOCAL}/${network}/last_reserved_ip.0`, address(LEASES + 1))
  const config = { cniVersion: '1.0.0', name: network, ipam: { type: 'host-local', ranges: [[{ subnet: '10.104.0.0/16' }]] } }
  const call = (command: string, id: string, netns: string) =>
    execute({
      path: `${REFERENCE_FOLDER}/host-local`,
      env: { CNI_COMMAND: command, CNI_CONTAINERID: id, CNI_NETNS: netns, CNI_IFNAME: 'eth0', CNI_PATH: REFERENCE_FOLDER },
      input: JSON.stringify(config),
    })
  return {
    name: 'host-local',
    add: ({ id, netns }) => ({ cost: call('ADD', id, netns), result: undefined }),
    del: ({ id, netns }) => call('DEL', id, netns),
    stages: () => [],
    forget: () => {},
  }
}
