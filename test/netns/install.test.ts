/** `tsnet install` and `uninstall`, in folders of a throw-away host. */
import assert from 'node:assert/strict'
import { dirname } from 'node:path'
import { type Host, hostTest, LOOPBACK, TSNET } from './host.ts'
import type { Outcome } from './machine.ts'
import { assertNothingLeft } from './state.ts'

const FOREIGN = '#!/bin/sh\necho "the other one"\n'
const OPTIONS = ['--bin-dir', '/run/bin']

function tsnet(host: Host, ...args: readonly string[]): Outcome {
  return host.run([TSNET, ...args], { env: { NETCONFPATH: '/run/net.d' } })
}

/** @returns `path status` of each change; the checkout of a test may be anybody's, which is warned of. */
function must(host: Host, ...args: readonly string[]): readonly string[] {
  const { status, stdout, stderr } = tsnet(host, ...args)
  assert.equal(status, 0, `tsnet ${args.join(' ')}: ${stderr}`)
  assert.match(stderr, /^(tsnet: Others than root can change [^\n]*\n)?$/)
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => line.replace('\t', ' '))
}

const list = (host: Host) => host.sh('find /run/bin -mindepth 1 | sort').split('\n').filter(Boolean)
const write = (host: Host, path: string, text: string) =>
  host.exec(['sh', '-c', 'mkdir -p "$(dirname "$0")"; cat >"$0"; chmod 755 "$0"', path], { input: text })

hostTest('install, a network, a container, and uninstall', async (host, t) => {
  const netns = host.container('c1')
  // As a package lies elsewhere than where it was built.
  const dist = dirname(dirname(TSNET))
  host.sh(`mkdir /run/package && cp -r ${dist} /run/package/dist && mount -t tmpfs tmpfs ${dist}`)
  const packaged = (...args: readonly string[]) => host.run(['/run/package/dist/bin/tsnet', ...args], { env: { NETCONFPATH: '/run/net.d' } })
  const { status, stdout, stderr } = packaged('install', ...OPTIONS, '--network', 'web', '--json')
  assert.equal(status, 0, stderr)
  assert.deepEqual(
    (JSON.parse(stdout) as { path: string; status: string }[]).map((change) => `${change.path} ${change.status}`),
    ['/run/bin/tsnet installed', '/run/bin/loopback installed', '/run/net.d/10-web.conflist installed'],
  )
  const program = '/run/bin/tsnet'
  const conf = { ...JSON.parse(host.exec(['cat', '/run/net.d/10-web.conflist'])).plugins[0], name: 'web', cniVersion: '1.1.0' }
  host.mustCni('ADD', { netns, program, conf })
  assert.match(host.exec([program, 'ls']), /^web\tc1\teth0\t/)
  await t.test('is refused while containers are attached', () => {
    const refused = host.run([program, 'uninstall', ...OPTIONS])
    assert.equal(refused.status, 1)
    assert.match(refused.stderr, /^tsnet: Cannot uninstall: there are still attachments \(1\), [^\n]*Hint: [^\n]*--force\n$/)
  })
  host.mustCni('DEL', { netns, program, conf })
  assert.equal(
    host.exec([program, 'uninstall', ...OPTIONS]).replaceAll('\t', ' '),
    '/run/bin/tsnet removed\n/run/bin/loopback removed\n/run/net.d/10-web.conflist removed\n',
  )
  assert.deepEqual([list(host), host.sh('ls /run/net.d')], [[], ''])
  assert.match(packaged('uninstall', ...OPTIONS).stderr, /tsnet is not installed there/)
  assertNothingLeft(host)
})

hostTest('a runtime finds a whole program under a name at any moment', async (host) => {
  write(host, '/run/bin/loopback', FOREIGN)
  const script =
    'while [ ! -e /run/stop ]; do sum=$(sha256sum </run/bin/loopback) || sum=none; case "$1$2" in *"$sum"*) ;; *) echo "$sum";; esac; done'
  const sums = ['/run/bin/loopback', LOOPBACK].map((path) => host.sh(`sha256sum <${path}`))
  const watcher = host.start(['sh', '-c', script, 'sh', ...sums])
  let seen = ''
  watcher.stdout?.on('data', (data) => {
    seen += String(data)
  })
  const ended = new Promise((resolve) => watcher.once('close', resolve))
  for (let i = 0; i < 3; i++) {
    must(host, 'install', ...OPTIONS, '--force', '--as', 'loopback')
    must(host, 'uninstall', ...OPTIONS)
  }
  host.sh('touch /run/stop')
  await ended
  assert.equal(seen, '')
  assert.equal(host.exec(['/run/bin/loopback']), 'the other one\n')
})

hostTest("somebody else's programs are kept, and come back", async (host, t) => {
  write(host, '/run/bin/loopback', FOREIGN)
  await t.test('loopback stays unless it is asked for', () => {
    assert.deepEqual(must(host, 'install', ...OPTIONS), ['/run/bin/tsnet installed', '/run/bin/loopback kept'])
    const { status, stderr } = tsnet(host, 'install', ...OPTIONS, '--as', 'tsnet,loopback')
    assert.equal(status, 1)
    assert.match(stderr, /Cannot install loopback: "\/run\/bin" has a program of that name[^\n]*Hint: --force/)
    assert.equal(host.exec(['/run/bin/loopback']), 'the other one\n')
  })
  await t.test('--force takes its place, and another install changes nothing of that', () => {
    assert.deepEqual(must(host, 'install', ...OPTIONS, '--as', 'loopback', '--force'), ['/run/bin/loopback replaced'])
    const inode = host.exec(['stat', '-c', '%i', '/run/bin/tsnet'])
    assert.deepEqual(must(host, 'install', ...OPTIONS, '--as', 'loopback,tsnet'), ['/run/bin/loopback updated', '/run/bin/tsnet updated'])
    assert.notEqual(host.exec(['stat', '-c', '%i', '/run/bin/tsnet']), inode, 'it was overwritten in place')
    assert.match(host.run(['/run/bin/loopback']).stderr, /CNI plugin "loopback"/)
  })
  await t.test('uninstall puts it back, and leaves what was changed since', () => {
    must(host, 'install', ...OPTIONS, '--network', 'web')
    must(host, 'install', ...OPTIONS, '--network', 'back', '--conf-dir', '/run/other.d')
    host.sh('echo >>/run/net.d/10-web.conflist')
    write(host, '/run/bin/tsnet', '#!/bin/sh\n# newer\n')
    assert.deepEqual(must(host, 'uninstall', ...OPTIONS), [
      '/run/bin/tsnet kept',
      '/run/bin/loopback restored',
      '/run/net.d/10-web.conflist kept',
      '/run/other.d/10-back.conflist removed',
    ])
    assert.equal(host.exec(['/run/bin/loopback']), 'the other one\n')
    assert.deepEqual(list(host), ['/run/bin/loopback', '/run/bin/tsnet'])
  })
  await t.test('a network that is defined already is left alone', () => {
    write(host, '/run/net.d/50-mine.conflist', JSON.stringify({ cniVersion: '1.0.0', name: 'mine', plugins: [{ type: 'bridge' }] }))
    assert.deepEqual(must(host, 'install', '--bin-dir', '/run/bin2', '--network', 'mine').at(-1), '/run/net.d/50-mine.conflist kept')
    must(host, 'uninstall', '--bin-dir', '/run/bin2')
    assert.match(host.sh('ls /run/net.d'), /50-mine/)
  })
  await t.test('a folder that cannot be written to', () => {
    host.sh('mkdir -p /run/closed && mount -t tmpfs -o ro tmpfs /run/closed')
    assert.match(
      tsnet(host, 'install', '--bin-dir', '/run/closed').stderr,
      /^(tsnet: Others[^\n]*\n)?tsnet: Cannot install into "\/run\/closed": [^\n]*Hint: Run it as root/,
    )
  })
})
