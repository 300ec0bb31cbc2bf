/** One published port must cost the same however many are published already. */
import { type Contender, tsnet } from './contender.ts'
import { type CaseOptions, container, interleave, type Row, rowOf } from './series.ts'
import { makeSideHost } from './side-host.ts'

const STANDING = [10, 1_000, 10_000] as const
/** A configuration may have 1,000 mappings. */
const CONTAINERS = 10
const TARGET = 1.3
/** The samples' ports are in the same file of the port ledger as the first of those that stand. */
const FIRST_PORT = 20_000
const FIRST_STANDING = 20_120

export function portsCase(options: CaseOptions): readonly Row[] {
  const contenders = STANDING.map((ports) => prepare(ports, options))
  const [few, ...more] = interleave(contenders, { ...options, forget: false })
  if (few === undefined) throw new Error('A series is missing')
  const against = `${STANDING[0]} ports`
  return more.flatMap((samples, i) => {
    const text = `one port, nftables, ${STANDING[i + 1]?.toLocaleString('en')} published`
    return [
      rowOf({ case: `ADD, ${text}`, against, target: TARGET }, samples.adds, few.adds),
      rowOf({ case: `DEL, ${text}`, against, target: TARGET }, samples.dels, few.dels),
    ]
  })
}

/** A host with ten containers that stand, and share the ports. */
function prepare(ports: number, { plugin, progress }: CaseOptions): Contender {
  const host = makeSideHost(`ports-${ports}`)
  const contender = tsnet(plugin, { config: { backend: 'nftables' }, execute: host.execute })
  const each = ports / CONTAINERS
  for (let i = 0; i < CONTAINERS; i++) {
    contender.add({ ...container(`stands-${ports}-${i}`, FIRST_STANDING + i * each), ports: each })
    progress(`${(i + 1) * each} of ${ports} standing ports`)
  }
  return { ...contender, name: `ports-${ports}`, firstPort: FIRST_PORT }
}
