/** What tsnet is interrupted in: how each operation begins, and what brings the host back to where it was. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type CniCall, type Container, DUAL_STACK, type Host, TSNET } from './host.ts'
import type { Traced } from './kill.ts'
import type { Outcome } from './machine.ts'
import { assertNothingLeft, assertSame, rulesOf, snapshot } from './state.ts'

const DEFINITIONS = '/run/net.d'
const INTERFACE_TAKEN = 101

/** With everything that an ADD may make. */
const CONF = { ...DUAL_STACK, macspoofchk: true }
const PORTS = [
  { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
  { hostPort: 5300, containerPort: 53, protocol: 'udp', hostIP: '127.0.0.1' },
]

const STANDING_ONLY = { ...CONF, 'cni.dev/valid-attachments': [{ containerID: 'standing', ifname: 'eth0' }] }

/** A container to be attached, alone on the host or in the company of another one in the same network. */
export class Scene {
  readonly host: Host
  readonly container: Container
  readonly call: CniCall
  /** The host without the container. */
  readonly before: object
  readonly #problems: string[] = []
  readonly #standing: { readonly call: CniCall; readonly prevResult: object } | undefined

  constructor(host: Host, { standing }: { readonly standing: boolean }) {
    this.host = host
    this.container = host.container('c1')
    this.call = { id: 'c1', netns: this.container, conf: CONF, runtimeConfig: { portMappings: PORTS } }
    host.exec(['mkdir', '-p', DEFINITIONS])
    host.exec(['tee', `${DEFINITIONS}/net.json`], { input: JSON.stringify(CONF) })
    // The first ADD ever makes files that stay.
    this.attach()
    this.detach()
    this.#standing = standing ? stand(host) : undefined
    this.before = snapshot(host)
  }

  attach(): void {
    this.host.mustCni('ADD', this.call)
  }

  detach(): void {
    this.host.mustCni('DEL', { id: 'c1', conf: CONF })
  }

  collect(): void {
    this.host.mustCni('GC', { conf: STANDING_ONLY })
  }

  /** The runtime does not know that an ADD that was interrupted was complete but for its answer: then it has to DEL. */
  attachAgain(): void {
    const { host, call } = this
    const first = host.cni('ADD', call)
    if (first.json.code === INTERFACE_TAKEN) this.detach()
    else assert.equal(first.status, 0, first.stdout)
    const prevResult = first.status === 0 ? first.json : host.mustCni('ADD', call)
    host.mustCni('CHECK', { ...call, prevResult })
  }

  command(...args: readonly string[]): Traced {
    return { argv: [TSNET, ...args], env: { NETCONFPATH: DEFINITIONS }, input: '' }
  }

  run({ argv, env, input }: Traced): Outcome {
    return this.host.run(argv, { env, input })
  }

  /**
   * Does what ends without the container, and asserts that nothing is left. What fails is told at the end, unless nothing helps any more.
   * @param at What was done, for messages.
   */
  attempt(at: string, act: () => void): void {
    try {
      act()
      this.assertAsBefore(at)
    } catch (error) {
      this.#problems.push(`${at}: ${error instanceof Error ? error.message : error}`)
      this.host.cni('DEL', { id: 'c1', conf: CONF })
      this.host.run([TSNET, 'repair'])
      assertSame(snapshot(this.host), this.before, `not even DEL helps: ${this.#problems.join('\n')}`)
    }
  }

  /** Asserts that the container has left no trace: links, addresses, rules, elements, leases, records, kernel parameters, locks. */
  assertAsBefore(at: string): void {
    assertSame(snapshot(this.host), this.before, at)
    assert.equal(this.container.run(['ip', 'link', 'show', 'eth0']).status, 1, `${at}: its interface is there`)
    assert.deepEqual(heldLocks(this.host), [], `${at}: locks are held`)
  }

  end(): void {
    const { host } = this
    assert.equal(this.#problems.length, 0, this.#problems.join('\n'))
    if (this.#standing !== undefined) {
      host.mustCni('CHECK', { ...this.#standing.call, prevResult: this.#standing.prevResult })
      host.mustCni('DEL', this.#standing.call)
    }
    assertNothingLeft(host)
  }
}

export interface Operation {
  readonly name: string
  /** What has been done before. */
  readonly prepare: (scene: Scene) => void
  readonly begin: (scene: Scene) => Traced
  /** What a person or runtime may do next; each ends without the container. */
  readonly remedies: Readonly<Record<string, (scene: Scene) => void>>
}

const DEL = (scene: Scene): void => scene.detach()
const GC = (scene: Scene): void => scene.collect()
const ADD = (scene: Scene): void => {
  scene.attachAgain()
  scene.detach()
}

export const OPERATIONS: readonly Operation[] = [
  { name: 'ADD', prepare: () => {}, begin: (scene) => traced(scene, 'ADD'), remedies: { DEL, GC, ADD } },
  { name: 'DEL', prepare: (scene) => scene.attach(), begin: (scene) => traced(scene, 'DEL'), remedies: { DEL, GC, ADD } },
  {
    name: 'GC',
    prepare: (scene) => scene.attach(),
    begin: ({ host }) => host.prepare('GC', { conf: STANDING_ONLY }),
    remedies: { DEL, GC, ADD },
  },
  {
    name: 'tsnet attach',
    prepare: () => {},
    begin: (scene) => scene.command('attach', 'c1', '--network', 'net', '-p', '8080:80', '-p', '127.0.0.1:5300:53/udp'),
    remedies: {
      DEL,
      GC,
      'tsnet attach': (scene) => {
        const attach = scene.command('attach', 'c1', '--network', 'net', '-p', '8080:80')
        if (scene.run(attach).status !== 0) {
          scene.detach()
          mustRun(scene, attach)
        }
        mustRun(scene, scene.command('check', 'c1'))
        scene.detach()
      },
    },
  },
  {
    name: 'tsnet repair',
    prepare: (scene) => {
      scene.attach()
      wreck(scene.host)
    },
    begin: (scene) => scene.command('repair'),
    remedies: {
      DEL: (scene) => restored(scene, DEL),
      GC: (scene) => restored(scene, GC),
      ADD: (scene) => restored(scene, ADD),
      'tsnet repair': (scene) => restored(scene, DEL),
    },
  },
  {
    name: 'tsnet port add',
    prepare: (scene) => scene.attach(),
    begin: (scene) => scene.command('port', 'add', 'c1', '-p', '8443:443', '-p', '9000:90/udp'),
    remedies: {
      DEL,
      GC,
      ADD,
      'tsnet port add and rm': (scene) => {
        mustRun(scene, scene.command('port', 'add', 'c1', '-p', '8443:443', '-p', '9000:90/udp'))
        mustRun(scene, scene.command('check', 'c1'))
        mustRun(scene, scene.command('port', 'rm', 'c1', '-p', '8443:443', '-p', '9000:90/udp'))
        mustRun(scene, scene.command('check', 'c1'))
        scene.detach()
      },
    },
  },
  {
    name: 'tsnet port rm',
    prepare: (scene) => scene.attach(),
    begin: (scene) => scene.command('port', 'rm', 'c1', '-p', '8080:80'),
    remedies: {
      DEL,
      GC,
      'tsnet port rm': (scene) => {
        const again = scene.run(scene.command('port', 'rm', 'c1', '-p', '8080:80'))
        if (again.status !== 0) assert.match(again.stderr, /does not publish it/)
        // Any change completes a withdrawal that was cut short.
        mustRun(scene, scene.command('port', 'add', 'c1', '-p', '7:7'))
        assert.doesNotMatch(rulesOf(scene.host), /8080/)
        mustRun(scene, scene.command('check', 'c1'))
        scene.detach()
      },
      'tsnet port add': (scene) => {
        mustRun(scene, scene.command('port', 'add', 'c1', '-p', '8080:80'))
        mustRun(scene, scene.command('check', 'c1'))
        scene.detach()
      },
    },
  },
]

/** @returns The plugin's call for the container, to be run under the tracer. */
export function traced({ host, call }: Scene, command: string): Traced {
  return host.prepare(command, call)
}

function stand(host: Host) {
  const call = {
    id: 'standing',
    netns: host.container('standing'),
    conf: CONF,
    runtimeConfig: { portMappings: [{ hostPort: 8081, containerPort: 80, protocol: 'tcp' }] },
  }
  return { call, prevResult: host.mustCni('ADD', call) }
}

/** Takes away one of each kind: rules, an address of the bridge, a kernel parameter, the link of the container. */
function wreck(host: Host): void {
  const [veth] = host.json<{ ifname: string; ifalias?: string }>('ip', '-j', 'link').filter(({ ifalias }) => ifalias?.includes('c1:eth0'))
  host.sh(`
    nft delete table inet tsnet 2>/dev/null || true
    nft delete table bridge tsnet 2>/dev/null || true
    iptables -t nat -F TSNET-DNAT 2>/dev/null || true
    ip6tables -F TSNET-FORWARD 2>/dev/null || true
    ip link delete ${veth?.ifname}
    ip addr flush dev br-net scope global
    echo 0 > /proc/sys/net/ipv4/conf/br-net/route_localnet
    rm -f /run/tsnet/ports/tcp/31`)
}

/** Whatever the wreck took from others, and the interrupted repair did not give back, a whole repair does. */
function restored(scene: Scene, remedy: (scene: Scene) => void): void {
  if (remedy !== DEL) remedy(scene)
  mustRun(scene, scene.command('repair'))
  if (remedy === DEL) DEL(scene)
}

function mustRun(scene: Scene, traced: Traced): void {
  const { status, stdout, stderr } = scene.run(traced)
  assert.equal(status, 0, `${traced.argv.join(' ')}: ${stdout}${stderr}`)
}

/** @returns The paths of the lock files that a living process holds. @see proc_locks(5) */
function heldLocks(host: Host): readonly string[] {
  const root = host.machine.path('/run/tsnet')
  const held = new Set(
    readFileSync('/proc/locks', 'utf8')
      .split('\n')
      .flatMap((line) => / FLOCK .* (\S+) 0 EOF$/.exec(line)?.[1] ?? []),
  )
  return readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((path) => {
    if (!/(^|\/)(lock|containers)$/.test(path)) return false
    const { dev, ino } = statSync(join(root, path))
    const hex = (number: number) => number.toString(16).padStart(2, '0')
    return held.has(`${hex((dev >> 8) & 0xfff)}:${hex((dev & 0xff) | ((dev >> 12) & 0xfff00))}:${ino}`)
  })
}
