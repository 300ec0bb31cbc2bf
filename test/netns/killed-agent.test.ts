/** An agent that is killed at any call while it serves an ADD or DEL: one shot completes it, and the runtime sees nothing of it. */
import assert from 'node:assert/strict'
import { agentStatus, startAgent } from './agent-process.ts'
import { type CniDocument, type Host, hostTest, TSNET } from './host.ts'
import { type Point, reachedIn, SOAK, spread, underTracer } from './kill.ts'
import { Scene } from './operation.ts'

/** For each command; a long run takes all. */
const MOST = 3

function startUnderTracer(host: Host, ...words: readonly string[]) {
  return startAgent(host, { argv: [...underTracer(...words), TSNET, 'agent'] })
}

/** @returns What an agent does from the first touch of the network on. */
async function pointsOfServing(scene: Scene, command: string): Promise<readonly Point[]> {
  const { host, call } = scene
  const agent = await startUnderTracer(host, 'list')
  host.mustCni(command, call)
  host.exec(['kill', '-TERM', String(agentStatus(host).pid)])
  assert.equal(await agent.ended, 0)
  const points = reachedIn(host)
  const first = points.findIndex(({ text }) => text.includes('/run/tsnet/networks/'))
  // The status that was asked for comes last.
  return points.slice(first).filter(({ kind }) => kind === 'change')
}

for (const command of ['ADD', 'DEL']) {
  hostTest(`${command} succeeds though the agent is killed in the middle of it`, async (host, t) => {
    const scene = new Scene(host, { standing: false })
    if (command === 'DEL') scene.attach()
    const points = await pointsOfServing(scene, command)
    scene.detach()
    let killed = 0
    const chosen = spread(points, MOST, 1)
    for (const [i, point] of chosen.entries()) {
      if (command === 'DEL') scene.attach()
      const agent = await startUnderTracer(host, 'kill', point.name, i % 2 === 0 ? 'all' : 'one')
      const result: CniDocument = host.mustCni(command, scene.call)
      if (reachedIn(host).length > 0) killed++
      else agent.process.kill('SIGKILL')
      await agent.ended
      scene.attempt(`${command} through an agent that is killed at ${point.text}`, () => {
        if (command === 'DEL') return
        host.mustCni('CHECK', { ...scene.call, prevResult: result })
        scene.detach()
      })
    }
    t.diagnostic(`killed ${killed} of ${chosen.length} times, at ${points.length} points`)
    assert.ok(killed >= chosen.length * (SOAK ? 0.7 : 0.3), `only ${killed} agents were killed`)
    scene.end()
  })
}
