/** A kill while the rules of a network move between backends: nothing is lost, and what is left goes with the last container. */
import assert from 'node:assert/strict'
import { ADDRESSES, addressIn, type CniDocument, type Container, DUAL_STACK, type Host, hostTest, TSNET } from './host.ts'
import { changesOf, killAt, type Point, spread } from './kill.ts'
import { assertNothingLeft } from './state.ts'

const PORT = 80
const MOST = 14

const portMappings = (hostPort: number) => [{ hostPort, containerPort: PORT, protocol: 'tcp' }]

interface Scene {
  readonly host: Host
  readonly standing: Container
  readonly call: { readonly id: string; readonly netns: Container; readonly conf: object; readonly runtimeConfig: object }
  /** Starts what is standing anew. */
  readonly stand: () => CniDocument
  /** The configuration that the network moves away from. */
  readonly former: object
  readonly points: readonly Point[]
}

const WAYS = [
  ['iptables', 'nftables'],
  ['nftables', 'iptables'],
] as const

function sceneOf(host: Host, [from, to]: (typeof WAYS)[number]): Scene {
  const standing = host.container('standing')
  const call = { id: 'c1', netns: host.container('c1'), conf: { ...DUAL_STACK, backend: to }, runtimeConfig: { portMappings: portMappings(8081) } }
  const former = { ...DUAL_STACK, backend: from }
  const stand = () => host.mustCni('ADD', { id: 'standing', netns: standing, conf: former, runtimeConfig: { portMappings: portMappings(8080) } })
  stand()
  const points = changesOf(host, host.prepare('ADD', call))
  host.mustCni('DEL', call)
  host.mustCni('DEL', { id: 'standing' })
  assertNothingLeft(host)
  return { host, standing, call, stand, former, points }
}

async function assertAnswers({ host, standing }: Scene, result: CniDocument, message: string): Promise<void> {
  for (const family of [4, 6] as const) {
    const endpoint = { protocol: 'tcp', address: addressIn(result, family), port: PORT } as const
    await standing.talker.serve(endpoint, 'standing')
    const question = { protocol: 'tcp', address: ADDRESSES[family].host, port: 8080 } as const
    const answer = await host.outside.talker.ask(question).catch((error: Error) => ({ name: error.message }))
    assert.equal(answer.name, 'standing', `${message}, IPv${family}`)
    await standing.talker.close(endpoint)
  }
}

/** What brings a host to rest after the kill. */
const REMEDIES = {
  'DEL alone': async (scene: Scene, result: CniDocument, at: string) => {
    scene.host.mustCni('DEL', { id: 'c1', conf: scene.call.conf })
    await assertAnswers(scene, result, `after the DEL, ${at}`)
    scene.host.mustCni('DEL', { id: 'standing', conf: scene.call.conf })
  },
  'DEL of the standing one first': async ({ host, call }: Scene) => {
    host.mustCni('DEL', { id: 'standing', conf: call.conf })
    host.mustCni('DEL', { id: 'c1', conf: call.conf })
  },
  'GC alone': async ({ host, call }: Scene) => {
    host.mustCni('GC', { conf: { ...call.conf, 'cni.dev/valid-attachments': [] } })
  },
  'a new ADD': (scene: Scene, result: CniDocument, at: string) => addAgain(scene, result, at),
  'a new ADD with the former backend': (scene: Scene, result: CniDocument, at: string) =>
    addAgain({ ...scene, call: { ...scene.call, conf: scene.former } }, result, at),
} as const

async function addAgain(scene: Scene, result: CniDocument, at: string): Promise<void> {
  const { host, call, standing } = scene
  // Complete but for its answer: the runtime does not know that, and has to DEL.
  if (host.run(['grep', '-q', '"attached"', '/run/tsnet/attachments/net/c1:eth0.json']).status === 0) host.mustCni('DEL', call)
  const prevResult = host.mustCni('ADD', call)
  await assertAnswers(scene, result, `after the new ADD, ${at}`)
  host.mustCni('CHECK', { ...call, prevResult })
  const { status, stdout } = host.cni('CHECK', { id: 'standing', netns: standing, conf: call.conf, prevResult: result })
  assert.equal(status, 0, `${at}: ${stdout}`)
  host.mustCni('DEL', call)
  host.mustCni('DEL', { id: 'standing', conf: call.conf })
}

for (const [from, to] of WAYS) {
  hostTest(`a port is withdrawn from both backends after a kill on the way from ${from} to ${to}`, async (host) => {
    const standing = host.container('standing')
    const conf = { ...DUAL_STACK, backend: from }
    const result = host.mustCni('ADD', { id: 'standing', netns: standing, conf, runtimeConfig: { portMappings: portMappings(8080) } })
    await standing.talker.serve({ protocol: 'tcp', address: addressIn(result, 4), port: PORT }, 'standing')
    // What a kill leaves that comes right after the first word of the move.
    const file = '/run/tsnet/networks/net/network.json'
    const moving = { ...(JSON.parse(host.exec(['cat', file])) as object), backend: to, leaving: from }
    host.exec(['tee', file], { input: JSON.stringify(moving) })
    host.exec([TSNET, 'port', 'rm', 'standing', '-p', '8080:80'])
    await assert.rejects(host.outside.talker.ask({ protocol: 'tcp', address: ADDRESSES[4].host, port: 8080, timeoutMs: 1000 }))
    host.mustCni('DEL', { id: 'standing', conf })
    assertNothingLeft(host)
  })
}

for (const way of WAYS) {
  for (const [remedy, bringToRest] of Object.entries(REMEDIES)) {
    hostTest(`${remedy} brings a host to rest after a kill on the way from ${way.join(' to ')}`, async (host, t) => {
      const scene = sceneOf(host, way)
      let killed = 0
      for (const point of spread(scene.points, MOST)) {
        const result = scene.stand()
        const at = `killed at ${point.text}`
        if (killAt(scene.host, scene.host.prepare('ADD', scene.call), point)) killed++
        await assertAnswers(scene, result, at)
        await bringToRest(scene, result, at)
        assertNothingLeft(host)
      }
      t.diagnostic(`killed at ${killed} of ${scene.points.length} calls`)
      assert.ok(killed >= MOST / 2, `only ${killed} ADDs were killed`)
    })
  }
}
