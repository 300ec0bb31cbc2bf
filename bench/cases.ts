/** What is measured. Each case has a throw-away host to itself. */

import { agentCase, agentMemoryCase } from './agent-case.ts'
import { burstCase, cpuCase, rateCase } from './agent-load-case.ts'
import { agentIpamCase, agentStandingCase } from './agent-scale-case.ts'
import { connectionsCase } from './connections-case.ts'
import { type Contender, reference, tsnet } from './contender.ts'
import { hostLocalCase } from './host-local-case.ts'
import { ipamCase } from './ipam-case.ts'
import { linksCase } from './links-case.ts'
import { portsCase } from './ports-case.ts'
import { runtimesCase } from './runtimes-case.ts'
import { type CaseOptions, container, FIRST_PORTS, interleave, type Row, rowOf } from './series.ts'
import { throughputCase } from './throughput-case.ts'

export interface Case {
  readonly name: string
  readonly needsReference: boolean
  readonly run: (options: CaseOptions) => readonly Row[]
}

const MANY = 200
const MANY_QUICK = 20
export const CASES: readonly Case[] = [
  portCase('first', { label: 'first attachment, both make their bridge', standing: () => 0, forget: true, targets: { add: 0.8, del: 0.6 } }),
  portCase('alone', {
    label: 'only attachment, reference bridge left from before',
    standing: () => 0,
    forget: false,
    targets: { add: 0.8, del: 0.6 },
  }),
  portCase('standing', { label: 'one other attachment stands', standing: () => 1, forget: false, targets: { add: 0.8, del: 0.6 } }),
  { name: 'ipam', needsReference: false, run: ipamCase },
  { name: 'host-local', needsReference: true, run: hostLocalCase },
  portCase('many', {
    label: 'standing attachments',
    standing: ({ quick }) => (quick ? MANY_QUICK : MANY),
    forget: false,
    targets: { add: 0.4, del: 0.6 },
  }),
  { name: 'agent', needsReference: true, run: agentCase },
  { name: 'agent-memory', needsReference: false, run: agentMemoryCase },
  { name: 'agent-standing', needsReference: true, run: agentStandingCase },
  { name: 'agent-burst', needsReference: true, run: burstCase },
  { name: 'agent-rate', needsReference: true, run: rateCase },
  { name: 'agent-cpu', needsReference: true, run: cpuCase },
  { name: 'agent-ipam', needsReference: true, run: agentIpamCase },
  { name: 'links', needsReference: true, run: linksCase },
  { name: 'runtimes', needsReference: true, run: runtimesCase },
  { name: 'ports', needsReference: false, run: portsCase },
  { name: 'connections', needsReference: true, run: connectionsCase },
  { name: 'throughput', needsReference: false, run: throughputCase },
]

interface PortCase {
  readonly label: string
  /** Attachments of each contender that stand all the time. */
  readonly standing: (options: CaseOptions) => number
  /** Whether each sample of the reference begins without its bridge and chains. */
  readonly forget: boolean
  readonly targets: { readonly add: number; readonly del: number }
}

function portCase(name: string, { label, standing, forget, targets }: PortCase): Case {
  return {
    name,
    needsReference: true,
    run: (options) => {
      const contenders = [tsnet(options.plugin), reference()] as const
      const count = standing(options)
      stand(contenders, count, options)
      const text = count > 1 ? `${count} ${label}` : label
      const [ours, theirs] = interleave(contenders, { ...options, forget })
      const against = { against: 'reference' }
      if (ours === undefined || theirs === undefined) throw new Error('A series is missing')
      return [
        rowOf({ case: `ADD, ${text}`, ...against, target: targets.add }, ours.adds, theirs.adds),
        rowOf({ case: `DEL, ${text}`, ...against, target: targets.del }, ours.dels, theirs.dels),
      ]
    },
  }
}

/** Attachments that stay, in the order in which a busy host would get them. */
function stand(contenders: readonly Contender[], count: number, { progress }: CaseOptions): void {
  for (let i = 0; i < count; i++) {
    for (const [n, contender] of contenders.entries()) {
      contender.add(container(`${contender.name}-stands-${i}`, (FIRST_PORTS[n] ?? 0) + 1000 + i))
    }
    if (i % 10 === 9) progress(`${i + 1} of ${count} standing attachments`)
  }
}
