import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { requestedAddresses, requestedMac, requestedRanges } from './capabilities.ts'
import { parseCniArgs } from './cni-args.ts'
import { parsePortMappings } from './port-mapping.ts'
import { parseConfig, parseEnvironment } from './request.ts'
import { formatResult, parseResult } from './result.ts'

interface Call {
  readonly plugin: string
  readonly rc: number
  readonly env: Record<string, string>
  readonly stdin: { readonly cniVersion: '0.3.1' | '0.4.0' | '1.0.0'; readonly type: string }
  readonly stdout: Record<string, unknown> | ''
}

const calls = (runtime: string): Call[] =>
  readFileSync(join(process.cwd(), 'test', 'traces', `${runtime}.jsonl`), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))

/** Reads a call as the plugin does. @returns What it asks for. */
function read(call: Call) {
  const environment = parseEnvironment(call.env)
  const config = parseConfig(JSON.stringify(call.stdin), environment.command)
  const sources = { ...config, cniArgs: parseCniArgs(environment.args) }
  const prevResult = config.prevResult && parseResult(config.prevResult, config.cniVersion)
  const wishes = { ports: parsePortMappings(config.runtimeConfig), addresses: requestedAddresses(sources), mac: requestedMac(sources) }
  return { ...environment, ...config, ...wishes, ranges: requestedRanges(config.runtimeConfig), prevResult }
}

/** Version 1.1.1 of the plugins wrote an empty dns in 1.0.0 and left the IP version out of loopback's answer. */
function asBefore(result: object) {
  const { dns = {}, ips, ...rest } = JSON.parse(JSON.stringify(result))
  return { ...rest, dns, ips: ips.map(({ version: _, ...ip }: Record<string, unknown>) => ip) }
}

for (const runtime of ['cri', 'ctr', 'hook', 'podman']) {
  test(`every recorded call of ${runtime} is read, and every result written as it was`, () => {
    for (const call of calls(runtime)) {
      if (call.env.CNI_COMMAND === 'VERSION') {
        assert.equal(parseEnvironment(call.env).command, 'VERSION')
        continue
      }
      const request = read(call)
      assert.equal(request.type, call.stdin.type)
      if (call.stdin.type === 'portmap' && request.command === 'ADD') assert.ok(request.prevResult)
      if (request.command !== 'ADD' || call.rc !== 0 || call.stdout === '') continue
      const again = formatResult(parseResult(call.stdout, request.cniVersion), request.cniVersion)
      assert.deepEqual(asBefore(again), asBefore(call.stdout))
    }
  })
}

test("CRI's capital HostPort arrives", () => {
  const texts = calls('cri').map((call) => JSON.stringify(call.stdin))
  assert.ok(texts.some((text) => text.includes('"HostPort":18080')))
  const published = calls('cri')
    .filter((call) => call.env.CNI_COMMAND === 'ADD')
    .flatMap((call) => read(call).ports)
  assert.deepEqual(published[0], { hostPort: 18080, containerPort: 80, count: 1, protocol: 'tcp' })
})

test("podman's static addresses and MACs arrive by either way", () => {
  const requests = calls('podman')
    .filter((call) => call.env.CNI_COMMAND === 'ADD')
    .map(read)
  assert.ok(requests.some(({ runtimeConfig, addresses }) => 'ips' in runtimeConfig && addresses.length === 2))
  assert.ok(requests.some(({ args, addresses }) => Object.keys(args).length === 0 && addresses.length === 1))
  assert.ok(requests.some(({ mac }) => mac !== undefined))
})
