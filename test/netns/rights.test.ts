/** Who may: modes and owners of the state folder, capabilities, and a user without any who has a user namespace. */
import assert from 'node:assert/strict'
import { chmodSync, cpSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { DUAL_STACK, type Host, hostTest, TSNET } from './host.ts'
import { assertNothingLeft, assertRefused, assertSame, settled, snapshot, stateFiles } from './state.ts'

const NOBODY = '65534'
const PORT = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] }
const TIMES_OUT = { timeoutMs: 30_000 }

hostTest('everything in the state folder is private, whatever the umask', (host) => {
  const { argv, env, input } = host.prepare('ADD', { netns: host.container('c1'), runtimeConfig: PORT })
  host.exec(['sh', '-c', 'umask 0; exec "$@"', 'sh', ...argv], { env, input })
  const modes = host.exec(['find', '/run/tsnet', '-printf', '%y %m %U\\n']).trim().split('\n')
  assert.deepEqual([...new Set(modes)].sort(), ['d 700 0', 'f 600 0'])
  assert.ok(stateFiles(host).length > 5)
  host.mustCni('DEL', {})
  assertNothingLeft(host)
})

/** Not in a user namespace that knows one user. */
function canBeNobody(host: Host): boolean {
  return host.run(['setpriv', '--reuid', NOBODY, 'true']).status === 0
}

const LOOSE: readonly (readonly [path: string, loosen: string, tighten: string, names: RegExp])[] = [
  ['/run/tsnet', 'chmod 755', 'chmod 700', /"\/run\/tsnet": it is open to other users \(mode 0755\).*chmod 0700 "\/run\/tsnet"/],
  ['/run/tsnet', 'chmod 1770', 'chmod 0700', /mode 0770/],
  ['/run/tsnet', `chown ${NOBODY}`, 'chown 0', /"\/run\/tsnet": it belongs to user 65534, not to user 0.*chown 0 "\/run\/tsnet"/],
  ['/run/tsnet/networks/net/subnet', 'chmod 644', 'chmod 600', /net\/subnet": it is open to other users \(mode 0644\).*chmod 0600/],
  ['/run/tsnet/networks/net/subnet', `chown ${NOBODY}`, 'chown 0', /net\/subnet": it belongs to user 65534/],
  ['/run/tsnet/networks/net/network.json', 'chmod 660', 'chmod 600', /network\.json": it is open to other users/],
  ['/run/tsnet/networks/net/lock', 'chmod 666', 'chmod 600', /net\/lock": it is open to other users/],
  ['/run/tsnet/attachments/net/c1:eth0.json', 'chmod 604', 'chmod 600', /c1:eth0\.json": it is open to other users \(mode 0604\)/],
  ['/run/tsnet/ports/tcp/31', 'chmod 640', 'chmod 600', /ports\/tcp\/31": it is open to other users/],
]

hostTest('state that others could have written is refused with its path and what puts it right', async (host) => {
  const netns = host.container('c1')
  const late = { id: 'c2', netns: host.container('c2'), runtimeConfig: { portMappings: [{ hostPort: 8081, containerPort: 80, protocol: 'tcp' }] } }
  host.mustCni('ADD', { netns, runtimeConfig: PORT })
  await settled(host)
  const possible = LOOSE.filter(([, loosen]) => loosen.startsWith('chmod') || canBeNobody(host))
  for (const [path, loosen, tighten, names] of possible) {
    host.sh(`${loosen} ${path}`)
    // Another's record is not looked at by an ADD.
    const refused = path.includes('attachments') ? assertRefused(host, 'CHECK', { netns, prevResult: {} }, 5) : assertRefused(host, 'ADD', late, 5)
    assert.match(`${refused.msg} ${refused.details}`, names)
    host.sh(`${tighten} ${path}`)
  }
  host.mustCni('ADD', late)
  for (const id of ['c1', 'c2']) host.mustCni('DEL', { id })
  assertNothingLeft(host)
})

hostTest('without a capability every call says which, and how to get it, and changes nothing', async (host) => {
  const netns = host.container('c1')
  host.mustCni('ADD', { netns, runtimeConfig: PORT })
  await settled(host)
  const bare = host.container('c2')
  const before = snapshot(host)
  for (const [drop, names] of [
    ['-net_admin', /lacks CAP_NET_ADMIN/],
    ['-sys_admin', /lacks CAP_SYS_ADMIN/],
    ['-net_admin,-sys_admin', /lacks CAP_NET_ADMIN and CAP_SYS_ADMIN/],
  ] as const) {
    for (const [command, call] of [
      ['ADD', { id: 'c2', netns: bare }],
      ['CHECK', { netns, prevResult: {} }],
    ] as const) {
      const { argv, env, input } = host.prepare(command, call)
      const { status, stdout, stderr } = host.run(['setpriv', `--bounding-set=${drop}`, `--inh-caps=${drop}`, ...argv], { env, input })
      assert.equal(status, 1)
      const answer = JSON.parse(stdout) as { readonly msg: string; readonly details: string }
      assert.match(answer.msg, names)
      assert.match(answer.details, /CapabilityBoundingSet=.*unshare -Ur --net/)
      assert.doesNotMatch(`${stdout}${stderr}`, /\n\s*at /)
    }
  }
  assertSame(snapshot(host), before, 'a call without capabilities changed something')
  const { argv, env, input } = host.prepare('DEL', { netns })
  const { stdout } = host.run(['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin', ...argv], { env, input })
  assert.match(JSON.parse(stdout).msg, /lacks CAP_NET_ADMIN/)
  host.mustCni('DEL', { netns })
  assertNothingLeft(host)
})

/** The checkout may lie where others may not go. @returns The path of a copy of the program, which finds its bundles in the folder above */
function copyProgram(folder: string): string {
  const dist = dirname(dirname(TSNET))
  cpSync(dist, join(folder, 'dist'), { recursive: true, filter: (path) => dirname(path) !== dirname(TSNET) || path === TSNET })
  return join(folder, 'dist/bin/tsnet')
}

hostTest('a user without rights attaches and detaches in a user namespace with a network namespace of its own', (host) => {
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-user-'))
  try {
    chmodSync(folder, 0o777)
    const program = copyProgram(folder)
    const conf = JSON.stringify({ ...DUAL_STACK, backend: 'nftables', runtimeConfig: PORT })
    const script = `
      mount -t tmpfs tmpfs /run; mount -t sysfs sysfs /sys; ip link set lo up
      unshare -n sleep 60 & container=$!
      until [ "$(readlink /proc/$container/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
      export TSNET_STATE_DIR=${folder}/state TSNET_SYSCTL_DIR=${folder}/sysctl CNI_CONTAINERID=c1 CNI_NETNS=/proc/$container/ns/net CNI_IFNAME=eth0
      call() { echo '${conf}' | CNI_COMMAND=$1 ${program}; }
      call ADD >${folder}/result
      echo '${conf.replace(/}$/, ',"prevResult":{}}')}' | CNI_COMMAND=CHECK ${program}
      nsenter --net=/proc/$container/ns/net ip -o -4 addr show eth0
      ${program} ls
      ${program} ipam check
      call DEL
      ip -o link; find ${folder}/state/attachments -type f
      kill $container`
    const asNobody = canBeNobody(host) ? ['setpriv', '--reuid', NOBODY, '--regid', NOBODY, '--clear-groups'] : []
    const { status, stdout, stderr } = host.run([...asNobody, 'unshare', '-Ur', '--net', '--mount', 'sh', '-ec', script], TIMES_OUT)
    assert.equal(status, 0, `${stdout}${stderr}`)
    assert.match(stdout, /eth0 +inet 10\.50\.0\.2\/24/)
    assert.match(stdout, /net\tc1\teth0\t10\.50\.0\.2\/24/)
    assert.match(stdout, /net\tok\t2 leases/)
    assert.deepEqual(
      [...stdout.matchAll(/^\d+: ([^:@]+): </gm)].map(([, name]) => name),
      ['lo'],
      'a link is left',
    )
    assert.doesNotMatch(stdout, /\.json$/m)
    if (asNobody.length > 0) assert.equal(statSync(join(folder, 'state')).uid, Number(NOBODY))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
