import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, test } from 'node:test'
import fc from 'fast-check'
import { TsnetError } from '../error.ts'
import { type IpAddress, parseAddress } from '../wire/ip-address.ts'
import { type PublishedPort, portsConflict } from './model.ts'
import { claimPorts, type PortLedger, releasePorts } from './port-ledger.ts'

const ip = (text: string) => parseAddress(text) as IpAddress
const port = (hostPort: number, more: Partial<PublishedPort> = {}): PublishedPort => ({
  protocol: 'tcp',
  hostPort,
  count: 1,
  address: ip('10.0.0.2'),
  containerPort: 80,
  ...more,
})

let ledger: PortLedger
let gone: Set<string>

beforeEach((t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-ports-'))
  gone = new Set()
  ledger = { folder: join(folder, 'ports'), exists: (owner) => !gone.has(owner), siblings: (a, b) => a.endsWith('sibling') && b.endsWith('sibling') }
  if ('after' in t) t.after(() => rmSync(folder, { recursive: true }))
})

const refuses = (act: () => void, pattern: RegExp) =>
  assert.throws(act, (error) => error instanceof TsnetError && error.cniCode === 103 && pattern.test(error.message))

test('claimPorts() refuses a port of another owner and names both', () => {
  claimPorts(ledger, 'net/a:eth0', [port(8080)])
  refuses(() => claimPorts(ledger, 'net/b:eth0', [port(8080)]), /0\.0\.0\.0:8080\/tcp.*"net\/a:eth0"/)
})

test('claimPorts() claims all or none', () => {
  claimPorts(ledger, 'net/a:eth0', [port(8080)])
  refuses(() => claimPorts(ledger, 'net/b:eth0', [port(7000), port(8080)]), /8080/)
  claimPorts(ledger, 'net/c:eth0', [port(7000)])
})

test('claimPorts() takes over what its own owner left behind', () => {
  claimPorts(ledger, 'net/a:eth0', [port(8080)])
  claimPorts(ledger, 'net/a:eth0', [port(8080), port(8081)])
  releasePorts(ledger, 'net/a:eth0', [port(8080), port(8081)])
  claimPorts(ledger, 'net/b:eth0', [port(8080), port(8081)])
})

test('claimPorts() passes over owners that no longer exist', () => {
  claimPorts(ledger, 'net/a:eth0', [port(8080)])
  gone.add('net/a:eth0')
  claimPorts(ledger, 'net/b:eth0', [port(8080)])
  assert.doesNotMatch(readFileSync(join(ledger.folder, 'tcp/31'), 'utf8'), /net\/a/)
})

test('claimPorts() sees ranges that reach into other files', () => {
  claimPorts(ledger, 'net/a:eth0', [port(8000, { count: 1000 })])
  refuses(() => claimPorts(ledger, 'net/b:eth0', [port(8999)]), /8999/)
  claimPorts(ledger, 'net/b:eth0', [port(9000)])
})

test('claimPorts() leaves a port to another attachment of the same container', () => {
  claimPorts(ledger, 'net/sibling', [port(8080)])
  assert.deepEqual(claimPorts(ledger, 'other/sibling', [port(8080), port(8081)]), [port(8081)])
  releasePorts(ledger, 'other/sibling', [port(8080), port(8081)])
  refuses(() => claimPorts(ledger, 'net/c:eth0', [port(8080)]), /net\/sibling/)
})

test('releasePorts() leaves the claims of others', () => {
  claimPorts(ledger, 'net/a:eth0', [port(8080)])
  releasePorts(ledger, 'net/b:eth0', [port(8080)])
  refuses(() => claimPorts(ledger, 'net/c:eth0', [port(8080)]), /net\/a/)
})

test('claimPorts() agrees with portsConflict() over any sequence', () => {
  const ports = fc.record({
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    hostPort: fc.integer({ min: 250, max: 260 }),
    count: fc.integer({ min: 1, max: 4 }),
    hostAddress: fc.constantFrom(undefined, ip('10.0.0.1'), ip('10.0.0.9')),
  })
  const calls = fc.array(fc.record({ owner: fc.constantFrom('n/a:e', 'n/b:e', 'n/c:e'), release: fc.boolean(), port: ports }), { maxLength: 12 })
  let run = 0
  fc.assert(
    fc.property(calls, (sequence) => {
      const own = { ...ledger, folder: `${ledger.folder}-${run++}` }
      const model = new Map<string, PublishedPort>()
      for (const {
        owner,
        release,
        port: { hostAddress, ...rest },
      } of sequence) {
        const wish = port(rest.hostPort, { ...rest, ...(hostAddress && { hostAddress }) })
        const held = model.get(owner)
        if (release) {
          if (held !== undefined) releasePorts(own, owner, [held])
          model.delete(owner)
        } else if (held === undefined) {
          const free = [...model].every(([, other]) => !portsConflict(other, wish))
          if (free) claimPorts(own, owner, [wish])
          else refuses(() => claimPorts(own, owner, [wish]), /Cannot publish/)
          if (free) model.set(owner, wish)
        }
      }
    }),
    { numRuns: 60 },
  )
})
