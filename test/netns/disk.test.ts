/** A state folder that is full, read-only, cut short, or on a disk. */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type CniCall, DUAL_STACK, type Host, hostTest, TSNET } from './host.ts'
import { assertNothingLeft, assertRefused, assertSame, bookOf, leasesOf, readState, settled, snapshot } from './state.ts'

const SUBNET = '/run/tsnet/networks/net/subnet'
const PORT = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] }

function tsnet(host: Host, ...args: readonly string[]) {
  return host.run([TSNET, ...args])
}

/** @returns The calls of containers that are attached. */
function attach(host: Host, ...ids: readonly string[]): readonly CniCall[] {
  return ids.map((id) => {
    const call = { id, netns: host.container(id) }
    host.mustCni('ADD', call)
    return call
  })
}

hostTest('on a full disk, whatever is left of it, an ADD works or leaves everything as it was, and a DEL works', (host) => {
  host.sh('mkdir -m 700 /run/tsnet; mount -t tmpfs -o size=256k,mode=700 tmpfs /run/tsnet')
  const [first, second] = [
    { id: 'c1', netns: host.container('c1'), runtimeConfig: PORT },
    { id: 'c2', netns: host.container('c2'), runtimeConfig: { portMappings: [{ hostPort: 8081, containerPort: 80, protocol: 'tcp' }] } },
  ]
  let refused = 0
  for (let pages = 0; pages <= 16; pages++) {
    // Every file takes whole pages; how many are left is what differs.
    host.sh(`cat /dev/zero >/run/tsnet/filler 2>/dev/null || true; truncate -s -${pages * 4096} /run/tsnet/filler`)
    const before = snapshot(host)
    const { status, json, stdout } = host.cni('ADD', first)
    if (status === 0) {
      host.mustCni('DEL', first)
    } else {
      refused++
      assert.equal(json.code, 5, stdout)
      assert.match(`${json.msg} ${json.details}`, /\/run\/tsnet\/.*ENOSPC.*free some space/)
      assertSame(snapshot(host), before, `an ADD with ${pages} pages left was refused and changed something`)
    }
    host.sh('rm /run/tsnet/filler')
  }
  assert.ok(refused > 3 && refused < 17, `${refused} ADDs were refused`)
  host.mustCni('ADD', first)
  host.mustCni('ADD', second)
  host.sh('cat /dev/zero >/run/tsnet/filler 2>/dev/null || true')
  host.mustCni('CHECK', { ...second, prevResult: {} })
  for (const call of [first, second]) host.mustCni('DEL', call)
  host.sh('rm /run/tsnet/filler')
  assertNothingLeft(host, { deadClaims: true })
  host.mustCni('ADD', first)
})

hostTest('on a read-only disk every change is refused with code 5 and the way out, and goes on when it is writable again', async (host) => {
  host.sh('mkdir -m 700 /run/tsnet; mount -t tmpfs -o mode=700 tmpfs /run/tsnet')
  const [call] = attach(host, 'c1') as [CniCall]
  await settled(host)
  host.sh('mount -o remount,bind,ro /run/tsnet')
  for (const [command, one] of [
    ['ADD', { id: 'c2', netns: host.container('c2') }],
    ['ADD', { id: 'c2', netns: '/run/netns/c2', conf: { ...DUAL_STACK, name: 'other', bridge: 'br-other', ipam: { subnet: '10.51.0.0/24' } } }],
    ['DEL', call],
  ] as const) {
    const { details, msg } = assertRefused(host, command, one, 5)
    assert.match(`${msg} ${details}`, /EROFS.*read-only/)
  }
  assert.match(tsnet(host, 'ls').stdout, /^net\tc1\teth0/)
  host.sh('mount -o remount,bind,rw /run/tsnet')
  host.mustCni('CHECK', { ...call, prevResult: {} })
  host.mustCni('DEL', call)
  assertNothingLeft(host)
})

hostTest('leases that a cut file has lost are back before the next address is handed out', (host) => {
  const calls = attach(host, 'c1', 'c2', 'c3')
  const leases = leasesOf(host)
  for (const size of [4096, 4096 + 128, 4096 + 150, 4096 + 2 * 128 + 1, 4096 + 3 * 128 + 20]) {
    host.sh(`truncate -s ${size} ${SUBNET}`)
    const late = { id: 'late', netns: size === 4096 ? host.container('late') : '/run/netns/late' }
    host.mustCni('ADD', late)
    assert.deepEqual(
      leasesOf(host).filter((lease) => !lease.endsWith(' late:eth0')),
      leases,
    )
    host.mustCni('DEL', late)
  }
  // A DEL of another, which looks at the cut file first, must not make it true.
  host.sh(`truncate -s 4096 ${SUBNET}`)
  host.mustCni('DEL', calls[0])
  assert.deepEqual(
    leasesOf(host),
    leases.filter((lease) => !lease.endsWith(' c1:eth0')),
  )
  for (const call of calls) host.mustCni('DEL', call)
  assertNothingLeft(host)
})

const DAMAGES: Readonly<Record<string, (text: string) => string>> = {
  'garbage in the middle': (text) => `${text.slice(0, 4096 + 128)}\u0000\u0001garbage\n${text.slice(4096 + 3 * 128)}`,
  'a head that was cut short': (text) => text.slice(0, 50),
  'an empty file': () => '',
  'a lease that is there twice': (text) => `${text}${text.slice(4096, 4096 + 128)}`,
}

for (const [what, damage] of Object.entries(DAMAGES)) {
  hostTest(`${what}: ADD is refused with file, line and command, which makes the file right`, async (host) => {
    const [call] = attach(host, 'c1', 'c2')
    await settled(host)
    const leases = leasesOf(host)
    const path = host.machine.path(SUBNET)
    writeFileSync(path, damage(readFileSync(path, 'latin1')), 'latin1')
    const refused = assertRefused(host, 'ADD', { id: 'c3', netns: host.container('c3') }, 5)
    assert.match(refused.msg ?? '', /line \d+ of subnet file "\/run\/tsnet\/networks\/net\/subnet"/)
    const command = /tsnet (ipam check --repair --network net)$/.exec(refused.details ?? '')?.[1] ?? ''
    const checked = tsnet(host, 'ipam', 'check')
    assert.equal(checked.status, 1)
    assert.match(checked.stdout, /^net\tdamaged\tCannot use line \d+ of/)
    assert.match(checked.stderr, /ipam check --repair/)
    const repaired = tsnet(host, ...command.split(' '))
    assert.equal(repaired.status, 0, repaired.stderr)
    assert.match(repaired.stdout, /^net\trepaired\t/)
    assert.deepEqual(leasesOf(host), leases)
    assert.equal(tsnet(host, 'ipam', 'check').stdout, 'net\tok\t4 leases\n')
    assert.notEqual(readState(host, 'networks/net/subnet.damaged'), undefined)
    host.mustCni('CHECK', { ...call, prevResult: {} })
    for (const id of ['c1', 'c2']) host.mustCni('DEL', { id })
    assertNothingLeft(host)
  })
}

hostTest('leases come back from living namespaces when records and file are lost, and those of nobody are freed', (host) => {
  attach(host, 'c1', 'c2')
  const leases = leasesOf(host)
  host.sh(`cd /run/tsnet; rm attachments/net/c1:eth0.json; : >attachments/net/c2:eth0.json; truncate -s 4096 ${SUBNET}`)
  host.sh(`printf '10.50.0.9 leased ghost:eth0\\n10.50.0.10 leased reserved:by-hand\\n' >>${SUBNET}`)
  const book = bookOf(host)
  const found = JSON.parse(tsnet(host, 'ipam', 'check', '--json').stdout)
  assertSame(bookOf(host), book, 'a check changed something')
  assert.equal(found[0].network, 'net')
  assert.equal(found[0].ok, false)
  const problems = found[0].problems.map(({ problem }: { problem: string }) => problem).join('\n')
  assert.match(problems, /The lease of 10\.50\.0\.2 for "c1:eth0" is missing/)
  assert.match(problems, /The lease of fd00:50::3 for "c2:eth0" is missing/)
  assert.match(problems, /10\.50\.0\.9 is of "ghost:eth0", which does not exist/)
  assert.match(problems, /c1:eth0\.json" is missing/)
  assert.match(problems, /c2:eth0\.json" cannot be read/)
  const { status, stderr } = tsnet(host, 'ipam', 'check', '--repair')
  assert.equal(status, 1, 'a record cannot be made again')
  assert.match(stderr, /Detach the container and attach it again: tsnet detach c/)
  assert.deepEqual(leasesOf(host), [...leases, '10.50.0.10 reserved:by-hand'].sort())
  for (const id of ['c1', 'c2']) host.mustCni('DEL', { id })
  assert.deepEqual(leasesOf(host), ['10.50.0.10 reserved:by-hand'])
  assert.equal(tsnet(host, 'ipam', 'check').stdout, 'net\tok\t1 lease\n')
  host.mustCni('GC', { conf: { ...DUAL_STACK, 'cni.dev/valid-attachments': [] } })
  assert.deepEqual(leasesOf(host), ['10.50.0.10 reserved:by-hand'], 'GC keeps what a person has reserved')
  assert.equal(tsnet(host, 'ipam', 'check', '--network', 'none').status, 1)
})

hostTest('on a disk, lease and record are there before ADD reports them; in memory nobody waits', (host, t) => {
  if (host.exec(['stat', '-f', '-c', '%T', tmpdir()]).trim() === 'tmpfs') return t.skip(`${tmpdir()} is in memory`)
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-disk-'))
  const trace = (state: string, id: string) => {
    const { argv, env, input } = host.prepare('ADD', {
      id,
      netns: host.container(id),
      conf: { ...DUAL_STACK, backend: 'nftables' },
      env: { TSNET_STATE_DIR: state },
    })
    host.exec(['strace', '-f', '-y', '-o', '/run/trace', '-e', 'trace=pwrite64,write,fsync,rename', ...argv], { env, input })
    const lines = host.exec(['cat', '/run/trace']).split('\n')
    return lines.filter((line) => line.includes(state) || /write\(1</.test(line)).map((line) => line.replace(/^\d+ +/, ''))
  }
  try {
    const onDisk = trace(folder, 'c1')
    const reported = onDisk.findIndex((line) => line.startsWith('write(1<'))
    assert.equal(reported, onDisk.length - 1, 'nothing is written after the answer')
    for (const [written, synced] of [
      [/pwrite64\(\d+<.*\/subnet>, ".* leased/, /^fsync\(\d+<.*\/networks\/net\/subnet>/],
      [/^write\(\d+<.*c1:eth0\.json\.new>, /, /^fsync\(\d+<.*c1:eth0\.json\.new>/],
      [/^rename\(".*c1:eth0\.json\.new"/, /^fsync\(\d+<.*\/attachments\/net>/],
    ] as const) {
      const last = onDisk.findLastIndex((line) => written.test(line))
      const after = onDisk.findIndex((line, i) => i > last && synced.test(line))
      assert.ok(last >= 0 && after > last && after < reported, `${written}\n${onDisk.join('\n')}`)
    }
    assert.doesNotMatch(trace('/run/memory', 'c2').join('\n'), /fsync/)
    host.mustCni('DEL', { id: 'c1', env: { TSNET_STATE_DIR: folder } })
    host.mustCni('DEL', { id: 'c2', env: { TSNET_STATE_DIR: '/run/memory' } })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
