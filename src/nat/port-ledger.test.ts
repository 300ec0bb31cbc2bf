import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, test } from 'node:test'
import fc from 'fast-check'
import { TsnetError } from '../error.ts'
import { type IpAddress, parseAddress } from '../wire/ip-address.ts'
import type { HostPorts } from './host-ports.ts'
import { type PublishedPort, portsConflict } from './model.ts'
import { claimPorts, type PortLedger, releasePorts, restoreClaims, unclaimedPorts } from './port-ledger.ts'

/** Whatever is asked for. */
const FREE: HostPorts = {
  firstTaken: () => undefined,
  refusal: (_, taken) => new TsnetError('TSNET_PORT_TAKEN', `Cannot publish: the host has ${taken}`, { cniCode: 103 }),
}

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

interface Circumstances {
  readonly ledger?: PortLedger
  readonly keep?: readonly PublishedPort[]
  readonly host?: HostPorts
  readonly onChosen?: (ports: readonly PublishedPort[]) => void
}

/** Each port is a wish of its own. */
function claim(owner: string, ports: readonly PublishedPort[], more: Circumstances = {}): readonly PublishedPort[] {
  const { ledger: book = ledger, onChosen = () => {}, host = FREE, keep = [] } = more
  return claimPorts(book, owner, { wishes: ports.map((one) => [one]), keep, host, onChosen })
}

const refuses = (act: () => void, pattern: RegExp) =>
  assert.throws(act, (error) => error instanceof TsnetError && error.cniCode === 103 && pattern.test(error.message))

test('claimPorts() refuses a port of another owner and names both', () => {
  claim('net/a:eth0', [port(8080)])
  refuses(() => claim('net/b:eth0', [port(8080)]), /0\.0\.0\.0:8080\/tcp.*"net\/a:eth0"/)
})

test('claimPorts() claims all or none', () => {
  claim('net/a:eth0', [port(8080)])
  refuses(() => claim('net/b:eth0', [port(7000), port(8080)]), /8080/)
  claim('net/c:eth0', [port(7000)])
})

test('claimPorts() takes over what its own owner left behind', () => {
  claim('net/a:eth0', [port(8080)])
  claim('net/a:eth0', [port(8080), port(8081)])
  releasePorts(ledger, 'net/a:eth0', [port(8080), port(8081)])
  claim('net/b:eth0', [port(8080), port(8081)])
})

test('claimPorts() passes over owners that no longer exist', () => {
  claim('net/a:eth0', [port(8080)])
  gone.add('net/a:eth0')
  claim('net/b:eth0', [port(8080)])
  assert.doesNotMatch(readFileSync(join(ledger.folder, 'tcp/31'), 'utf8'), /net\/a/)
})

test('claimPorts() sees ranges that reach into other files', () => {
  claim('net/a:eth0', [port(8000, { count: 1000 })])
  refuses(() => claim('net/b:eth0', [port(8999)]), /8999/)
  claim('net/b:eth0', [port(9000)])
})

test('claimPorts() leaves a port to another attachment of the same container', () => {
  claim('net/sibling', [port(8080)])
  assert.deepEqual(claim('other/sibling', [port(8080), port(8081)]), [port(8081)])
  releasePorts(ledger, 'other/sibling', [port(8080), port(8081)])
  refuses(() => claim('net/c:eth0', [port(8080)]), /net\/sibling/)
})

test('releasePorts() leaves the claims of others', () => {
  claim('net/a:eth0', [port(8080)])
  releasePorts(ledger, 'net/b:eth0', [port(8080)])
  refuses(() => claim('net/c:eth0', [port(8080)]), /net\/a/)
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
          if (free) claim(owner, [wish], { ledger: own })
          else refuses(() => claim(owner, [wish], { ledger: own }), /Cannot publish/)
          if (free) model.set(owner, wish)
        }
      }
    }),
    { numRuns: 60 },
  )
})

test('claimPorts() gives what is kept and what is new, and releasePorts() only what it is asked for', () => {
  claim('net/a:eth0', [port(8080)])
  claim('net/a:eth0', [port(8081)], { keep: [port(8080)] })
  refuses(() => claim('net/b:eth0', [port(8080)]), /net\/a/)
  releasePorts(ledger, 'net/a:eth0', [port(8080)])
  claim('net/b:eth0', [port(8080)])
  refuses(() => claim('net/b:eth0', [port(8081)]), /net\/a/)
})

test('claimPorts() asks the host for what no attachment has, and claims nothing when a process has it', () => {
  const asked: number[] = []
  const host: HostPorts = {
    ...FREE,
    firstTaken: ({ hostPort }) => {
      asked.push(hostPort)
      return hostPort === 8081 ? 8081 : undefined
    },
  }
  let told = 0
  refuses(() => claim('net/a:eth0', [port(8080), port(8081)], { host, onChosen: () => told++ }), /the host has 8081/)
  assert.equal(told, 0)
  claim('net/b:eth0', [port(8080)])
  asked.length = 0
  refuses(() => claim('net/c:eth0', [port(8080)], { host }), /net\/b/)
  assert.deepEqual(asked, [])
})

test('claimPorts() chooses one number for both families, and says so before the ledger does', () => {
  const wish = [port(0), port(0, { address: ip('fd00::2') })]
  let before: readonly PublishedPort[] = []
  const ports = claimPorts(ledger, 'net/a:eth0', {
    wishes: [[port(8080)], wish],
    host: FREE,
    onChosen: (chosen) => {
      before = chosen
      assert.equal(existsSync(join(ledger.folder, 'tcp')), false)
    },
  })
  assert.deepEqual(before, ports)
  const [named, v4, v6] = ports
  assert.equal(named?.hostPort, 8080)
  assert.ok(v4 !== undefined && v4.hostPort > 0)
  assert.equal(v4?.hostPort, v6?.hostPort)
  refuses(() => claim('net/b:eth0', [port(v4?.hostPort ?? 0)]), /net\/a/)
})

test('claimPorts() never chooses what an attachment, a process or the same request has', () => {
  const host: HostPorts = { ...FREE, firstTaken: ({ hostPort, count }) => (hostPort % 3 === 0 && count === 1 ? hostPort : undefined) }
  const seen = new Set<number>()
  for (let i = 0; i < 30; i++) {
    for (const { hostPort } of claim(`net/${i}:eth0`, [port(0), port(0)], { host })) {
      assert.ok(hostPort % 3 !== 0 && !seen.has(hostPort), String(hostPort))
      seen.add(hostPort)
    }
  }
})

test('claimPorts() refuses with code 11 when no port can be chosen', () => {
  const host: HostPorts = { ...FREE, firstTaken: ({ hostPort }) => hostPort }
  assert.throws(
    () => claim('net/a:eth0', [port(0)], { host }),
    (error) =>
      error instanceof TsnetError && error.code === 'TSNET_NO_FREE_PORT' && error.cniCode === 11 && /none from \d+ to \d+/.test(error.message),
  )
})

test('restoreClaims() claims again what was deleted from the ledger, and leaves to others what is theirs by now', () => {
  const ports = [port(8080), port(8081), port(9000, { count: 600 })]
  claim('net/a:eth0', ports)
  assert.deepEqual(unclaimedPorts(ledger, 'net/a:eth0', ports), [])
  rmSync(join(ledger.folder, 'tcp'), { recursive: true })
  claim('net/b:eth0', [port(8081)])
  assert.deepEqual(unclaimedPorts(ledger, 'net/a:eth0', ports), ports)
  const refusals = restoreClaims(ledger, 'net/a:eth0', ports)
  assert.deepEqual(
    refusals.map(({ message }) => message),
    ['Cannot publish 0.0.0.0:8081/tcp: attachment "net/b:eth0" has it'],
  )
  assert.deepEqual(unclaimedPorts(ledger, 'net/a:eth0', ports), [port(8081)])
  assert.deepEqual(unclaimedPorts(ledger, 'net/b:eth0', [port(8081)]), [])
  refuses(() => claim('net/c:eth0', [port(9599)]), /"net\/a:eth0"/)
})

test('restoreClaims() does not take claims of the dead for anybody', () => {
  claim('net/dead:eth0', [port(8080)])
  gone.add('net/dead:eth0')
  assert.deepEqual(restoreClaims(ledger, 'net/a:eth0', [port(8080)]), [])
  assert.deepEqual(unclaimedPorts(ledger, 'net/a:eth0', [port(8080)]), [])
})
