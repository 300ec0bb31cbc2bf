/** The same chain of plugins by the same names: tsnet's links in the place of the reference's programs. */
import { dirname } from 'node:path'
import { inOneShot, startAgent, warmUp } from './agent.ts'
import { type Contender, reference } from './contender.ts'
import { type CaseOptions, container, interleave, type Row, rowOf } from './series.ts'

/** bridge, which delegates to host-local, and portmap: through an agent, in one shot, and the reference. */
export function linksCase(options: CaseOptions): readonly Row[] {
  startAgent(options.plugin)
  const folder = dirname(options.plugin)
  const contenders: readonly Contender[] = [
    { ...reference({ folder, network: 'links', bridge: 'links0', subnet: '10.89.0.0/16' }), name: 'links', firstPort: 20_000 },
    { ...reference({ folder, network: 'shot', bridge: 'shot0', subnet: '10.90.0.0/16', execute: inOneShot }), name: 'shot', firstPort: 40_000 },
    { ...reference(), firstPort: 30_000 },
  ]
  for (const [i, contender] of contenders.entries()) contender.add(container(`${contender.name}-stands`, 60_000 + i))
  warmUp(contenders.slice(0, 1))
  const [agent, shot, theirs] = interleave(contenders, { ...options, forget: false })
  if (!agent || !shot || !theirs) throw new Error('A series is missing')
  const against = { against: 'reference' }
  return [
    rowOf({ case: 'ADD by links, agent', ...against }, agent.adds, theirs.adds),
    rowOf({ case: 'DEL by links, agent', ...against }, agent.dels, theirs.dels),
    rowOf({ case: 'ADD by links, one shot', ...against }, shot.adds, theirs.adds),
    rowOf({ case: 'DEL by links, one shot', ...against }, shot.dels, theirs.dels),
  ]
}
