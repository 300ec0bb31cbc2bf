import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { type CniCall, type CniDocument, type Host, hostTest, LOOPBACK, TSNET } from './host.ts'
import { assertNothingLeft } from './state.ts'

interface Recorded {
  readonly plugin: string
  readonly rc: number
  readonly env: Readonly<Record<string, string | undefined>>
  readonly stdin: { readonly name?: string; readonly type?: string; readonly cniVersion: string; readonly runtimeConfig?: object }
  readonly stdout: CniDocument | ''
}

const RUNTIMES = ['cri', 'ctr', 'hook', 'podman']

function recording(runtime: string): readonly Recorded[] {
  const text = readFileSync(join(process.cwd(), 'test', 'traces', `${runtime}.jsonl`), 'utf8')
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Recorded)
}

const attachment = ({ env, stdin }: Recorded) => `${stdin.name}/${env['CNI_CONTAINERID']}:${env['CNI_IFNAME']}`

/** The portmap call that follows on a bridge call: tsnet does its work in the same call. */
function portmapAfter(calls: readonly Recorded[], i: number): Recorded | undefined {
  const [call, next] = [calls[i], calls[i + 1]]
  return next?.plugin === 'portmap' && call !== undefined && attachment(next) === attachment(call) ? next : undefined
}

/** Real namespaces in the place of the recorded ones; one that is named without an ADD stays missing. */
class Namespaces {
  readonly #host: Host
  readonly #paths = new Map<string, string>()

  constructor(host: Host) {
    this.#host = host
  }

  path(recorded: string | undefined, make: boolean): string {
    if (recorded === undefined || recorded === '') return ''
    if (make && !this.#paths.has(recorded)) this.#paths.set(recorded, this.#host.container(`n${this.#paths.size}`).path)
    return this.#paths.get(recorded) ?? '/run/netns/gone'
  }
}

/** The form of a document without what differs from host to host. */
function shape({ cniVersion, interfaces, ips, routes, dns }: CniDocument): object {
  return {
    cniVersion,
    interfaces: interfaces?.map((entry) => Object.keys(entry).filter((key) => key !== 'mtu')),
    ips: ips?.map(({ address, gateway, interface: index }) => ({
      v6: address.includes(':'),
      length: address.split('/')[1],
      gateway: gateway !== undefined,
      index,
    })),
    routes: routes?.map(({ dst }) => dst),
    dns: dns ?? {},
  }
}

/** A container's second interface leaves the default route to the first, and tsnet does not report what it did not make. */
function onlyMade(result: CniDocument, second: boolean): CniDocument {
  return second ? { ...result, routes: result.routes?.filter(({ dst }) => !dst.endsWith('/0')) ?? [] } : result
}

/** tsnet gives a host port one owner; the recorded plugins let a second container or network take it over. */
const publishedTwice = (outcome: CniDocument) => outcome.code === 103

function replay(host: Host, call: Recorded, portmap: Recorded | undefined, namespaces: Namespaces) {
  const command = call.env['CNI_COMMAND'] ?? ''
  const make = command === 'ADD'
  const netns = command === 'VERSION' ? 'dummy' : namespaces.path(call.env['CNI_NETNS'], make)
  const { CNI_PATH: _, CNI_NETNS: __, ...env } = call.env
  const conf = call.plugin === 'bridge' ? { ...call.stdin, type: 'tsnet' } : call.stdin
  const runtimeConfig = { ...call.stdin.runtimeConfig, ...portmap?.stdin.runtimeConfig }
  const request: CniCall = {
    netns,
    env,
    conf,
    program: call.plugin === 'loopback' ? LOOPBACK : TSNET,
    ...(make && call.plugin === 'bridge' && { runtimeConfig }),
  }
  const outcome = host.cni(command, request)
  if (!publishedTwice(outcome.json)) return outcome
  return host.cni(command, { ...request, runtimeConfig: { ...call.stdin.runtimeConfig } })
}

for (const runtime of RUNTIMES) {
  hostTest(`every call that ${runtime} made succeeds here as it did there, with an answer of the same form, and nothing is left`, (host, t) => {
    const calls = recording(runtime)
    const namespaces = new Namespaces(host)
    const open = new Map<string, Recorded>()
    let replayed = 0
    for (const [i, call] of calls.entries()) {
      if (call.plugin === 'portmap') continue
      const where = `${basename(runtime)} call ${i}: ${call.env['CNI_COMMAND']} ${attachment(call)}`
      // Runtimes that restart a container attach it again without a DEL that the recording kept.
      if (call.env['CNI_COMMAND'] === 'ADD' && open.has(attachment(call))) assert.equal(host.cni('DEL', detachOf(call)).status, 0, where)
      const second = [...open.values()].some(({ env }) => env['CNI_CONTAINERID'] === call.env['CNI_CONTAINERID'])
      const outcome = replay(host, call, portmapAfter(calls, i), namespaces)
      replayed++
      if (call.env['CNI_COMMAND'] === 'ADD') open.set(attachment(call), call)
      if (call.env['CNI_COMMAND'] === 'DEL') open.delete(attachment(call))
      if (call.env['CNI_COMMAND'] === 'DEL') assert.equal(outcome.status, 0, `${where}: ${outcome.stdout}`)
      if (call.rc !== 0) continue
      assert.equal(outcome.status, 0, `${where}: ${outcome.stdout}${outcome.stderr}`)
      if (call.env['CNI_COMMAND'] === 'VERSION')
        assert.ok(call.stdout !== '' && call.stdout.supportedVersions?.every((version) => outcome.json.supportedVersions?.includes(version)))
      else if (call.stdout === '') assert.equal(outcome.stdout, '')
      else assert.deepEqual(shape(onlyMade(outcome.json, second)), shape(onlyMade(call.stdout, second)), where)
    }
    for (const call of open.values()) host.mustCni('DEL', detachOf(call))
    t.diagnostic(`${replayed} calls`)
    assertNothingLeft(host)
  })
}

function detachOf(call: Recorded): CniCall {
  const { CNI_CONTAINERID, CNI_IFNAME } = call.env
  return {
    env: { CNI_CONTAINERID, CNI_IFNAME, CNI_NETNS: '' },
    conf: { ...call.stdin, type: 'tsnet' },
    program: call.plugin === 'loopback' ? LOOPBACK : TSNET,
  }
}

hostTest('a port that CRI publishes with capital keys answers', async (host) => {
  const call = recording('cri').find(({ plugin, env }) => plugin === 'bridge' && env['CNI_COMMAND'] === 'ADD')
  const runtimeConfig = { portMappings: [{ HostPort: 18_080, ContainerPort: 80, Protocol: 'tcp', HostIP: '' }] }
  const container = host.container('c1')
  host.mustCni('ADD', { netns: container, conf: { ...call?.stdin, type: 'tsnet' }, runtimeConfig })
  for (const address of ['0.0.0.0', '::']) await container.talker.serve({ protocol: 'tcp', address, port: 80 }, 'pod')
  for (const address of ['10.99.0.1', 'fd00:99::1']) {
    assert.equal((await host.outside.talker.ask({ protocol: 'tcp', address, port: 18_080 })).name, 'pod')
  }
})
