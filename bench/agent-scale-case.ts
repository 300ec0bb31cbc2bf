/** An ADD through the agent where much stands already: many attachments, many leases. */
import { startAgent, warmUp } from './agent.ts'
import { type Contender, REFERENCE_FOLDER, reference, tsnet } from './contender.ts'
import { hostLocal } from './host-local-case.ts'
import { preparePool } from './ipam-case.ts'
import { type CaseOptions, container, interleave, type Row, rowOf } from './series.ts'
import { makeSideHost } from './side-host.ts'

const STANDING = 500
const QUICK_STANDING = 20
const FIRST_PORT = 20_000
const FIRST_STANDING = 30_000
const STANDING_TARGETS = { own: 1.3, reference: 0.03 }

const LEASES = 60_000
const IPAM_TARGET = 0.02

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
  const [adds, theirs] = interleave([ours, hostLocal({ program: `${REFERENCE_FOLDER}/host-local`, network: 'many', leases: LEASES })], {
    ...options,
    forget: false,
    ports: false,
  })
  if (adds === undefined || theirs === undefined) throw new Error('A series is missing')
  const taken = `${LEASES.toLocaleString('en')} leases in a /16`
  return [
    rowOf({ case: `ADD without ports, ${taken}, agent`, against: 'host-local alone', target: IPAM_TARGET }, adds.adds, theirs.adds),
    rowOf({ case: `DEL without ports, ${taken}, agent`, against: 'host-local alone' }, adds.dels, theirs.dels),
  ]
}
