/** A host with two containers in one network and a stranger in another, all of them served, and what has to be true of them. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import type { TestContext } from 'node:test'
import { ADDRESSES, type Container, DUAL_STACK, type Host } from './host.ts'
import { eventually } from './machine.ts'

/** A published port for TCP and UDP, in the words of a runtime. */
export const ports = (hostPort: number) => ({
  portMappings: (['tcp', 'udp'] as const).map((protocol) => ({ hostPort, containerPort: 80, protocol })),
})
const ECHO_PORT = { hostPort: 8082, containerPort: 81, protocol: 'tcp' }
export const OTHER = { ...DUAL_STACK, name: 'other', bridge: 'br-other', ipam: { subnet: '10.51.0.0/24' } }
export interface Place {
  readonly host: Host
  /** What is damaged. */
  readonly c1: Container
  readonly c2: Container
  /** In another network. */
  readonly stranger: Container
  /** The host's end of c1's pair. */
  readonly veth: string
}

/** @param backend Who writes the rules. */
export async function prepare(host: Host, backend = DUAL_STACK.backend): Promise<Place> {
  const [c1, c2, stranger] = [host.container('c1'), host.container('c2'), host.container('c3')]
  const conf = { ...DUAL_STACK, backend }
  const result = host.mustCni('ADD', { id: 'c1', netns: c1, conf, runtimeConfig: ports(8080) })
  host.mustCni('ADD', { id: 'c2', netns: c2, conf, runtimeConfig: { portMappings: [...ports(8081).portMappings, ECHO_PORT] } })
  host.mustCni('ADD', { id: 'c3', netns: stranger, conf: { ...OTHER, backend } })
  for (const [name, container] of Object.entries({ c1, c2 })) {
    for (const protocol of ['tcp', 'udp'] as const) {
      for (const address of ['0.0.0.0', '::']) await container.talker.serve({ protocol, address, port: 80 }, name)
    }
  }
  for (const family of [4, 6] as const) await host.outside.talker.serve({ protocol: 'tcp', address: ADDRESSES[family].far, port: 9000 }, 'far')
  return { host, c1, c2, stranger, veth: result.interfaces?.[1]?.name ?? '' }
}

/** Ways in from outside, from the host itself and from the container to itself, the way out, and none from another network. */
export async function assertConnected({ host, c1, c2, stranger }: Place): Promise<void> {
  for (const family of [4, 6] as const) {
    const address = ADDRESSES[family].host
    for (const protocol of ['tcp', 'udp'] as const) {
      assert.equal((await host.outside.talker.ask({ protocol, address, port: 8080 })).name, 'c1')
      assert.equal((await host.outside.talker.ask({ protocol, address, port: 8081 })).name, 'c2')
    }
    assert.equal((await c1.talker.ask({ protocol: 'tcp', address, port: 8080 })).name, 'c1', 'hairpin')
    for (const container of [c1, c2]) {
      const answer = await container.talker.ask({ protocol: 'tcp', address: ADDRESSES[family].far, port: 9000 })
      assert.equal(answer.peer, address, 'masquerading')
    }
  }
  assert.equal((await host.talker.ask({ protocol: 'tcp', address: '127.0.0.1', port: 8080 })).name, 'c1')
  await assert.rejects(stranger.talker.ask({ protocol: 'tcp', address: '10.50.0.2', port: 80, timeoutMs: 200 }), 'networks are isolated')
}

/** A connection from outside to a published port of c2, over which every line comes back. */
export class Connection {
  readonly #client: ChildProcess
  #text = ''
  #lines = 0

  constructor({ host, c2 }: Place, t: TestContext) {
    const server = c2.start(['socat', 'TCP-LISTEN:81,reuseaddr', 'EXEC:cat'])
    this.#client = host.outside.start(['socat', '-', `TCP:${ADDRESSES[4].host}:8082,retry=50,interval=0.1`])
    this.#client.stdout?.on('data', (data) => {
      this.#text += data
    })
    t.after(() => [server, this.#client].forEach((child) => child.kill('SIGKILL')))
  }

  async assertAlive(): Promise<void> {
    const line = `line ${++this.#lines}\n`
    this.#client.stdin?.write(line)
    await eventually('the connection carries a line', () => this.#text.endsWith(line))
  }
}
