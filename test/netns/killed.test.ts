/** Killed at any system call that changes something, tsnet leaves what DEL alone, GC alone or the same call again brings to rest. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { hostTest } from './host.ts'
import { changesOf, killAt, orphanAt, type Point, SOAK, spread } from './kill.ts'
import { OPERATIONS, type Operation, Scene, traced } from './operation.ts'

/** For each remedy and surroundings; a long run takes all. */
const MOST: Readonly<Record<string, number>> = { ADD: 4, DEL: 3, 'tsnet repair': 2, 'tsnet port add': 2 }
const MOST_OF_OTHERS = 1
const ORPHAN_MS = 500

interface Kill {
  readonly point: Point
  readonly scope: 'one' | 'all'
}

/** A child that is killed alone is a fault, not a kill. */
function killsAt(points: readonly Point[]): readonly Kill[] {
  return points.flatMap((point): readonly Kill[] => [...(point.process === 0 ? [{ point, scope: 'one' } as const] : []), { point, scope: 'all' }])
}

interface Case {
  readonly operation: Operation
  readonly standing: boolean
  /** Which of the points are taken when not all are. */
  readonly offset: number
}

const CASES: readonly Case[] = OPERATIONS.flatMap((operation, i) => [false, true].map((standing, k) => ({ operation, standing, offset: 2 * i + k })))

for (const { operation, standing, offset } of CASES) {
  hostTest(`${operation.name} that was killed at any call, ${standing ? 'in a network that stands' : 'in a new network'}`, (host, t) => {
    const scene = new Scene(host, { standing })
    operation.prepare(scene)
    const points = changesOf(host, operation.begin(scene))
    scene.detach()
    let killed = 0
    let tried = 0
    for (const [i, [remedy, bringToRest]] of Object.entries(operation.remedies).entries()) {
      for (const { point, scope } of spread(killsAt(points), MOST[operation.name] ?? MOST_OF_OTHERS, offset + i)) {
        operation.prepare(scene)
        tried++
        if (killAt(host, operation.begin(scene), point, scope)) killed++
        scene.attempt(`${operation.name} killed (${scope}) at ${point.text}, then ${remedy}`, () => bringToRest(scene))
      }
    }
    t.diagnostic(`killed ${killed} of ${tried} times, at ${points.length} points`)
    assert.ok(killed >= tried * (SOAK ? 0.95 : 0.5), `only ${killed} of ${tried} were killed`)
    scene.end()
  })
}

hostTest('DEL waits for the program that a killed ADD has left behind', async (host, t) => {
  const scene = new Scene(host, { standing: true })
  const add = traced(scene, 'ADD')
  const point = changesOf(host, add).find(({ process }) => process > 0)
  scene.detach()
  if (point === undefined) return t.skip('This backend runs no program')
  const tracer = await orphanAt(host, add, point, ORPHAN_MS)
  const ended = once(tracer, 'exit')
  scene.detach()
  await ended
  scene.assertAsBefore('iptables-restore wrote its rules after the DEL')
  scene.end()
})
