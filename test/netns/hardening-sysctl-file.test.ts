/** The file that keeps kernel parameters through a reload of sysctl.d, with the tools that reload it. */
import assert from 'node:assert/strict'
import { existsSync, statSync } from 'node:fs'
import { DUAL_STACK, type Host, hostTest, TSNET } from './host.ts'
import { SYSCTL_FOLDER } from './machine.ts'
import { assertNothingLeft, assertRefused, sysctlFiles } from './state.ts'

const FILE = `${SYSCTL_FOLDER}/99-tsnet.conf`
const SYSTEMD = ['/usr/lib/systemd/systemd-sysctl', '/lib/systemd/systemd-sysctl'].find((path) => existsSync(path))
const PROGRAMS = { procps: ['sysctl', '--system'], ...(SYSTEMD !== undefined && { systemd: [SYSTEMD] }) }

/** A name that looks like the path of another parameter where dots are taken for slashes. */
const DOTTED = { ...DUAL_STACK, bridge: 'br.net.1' }
const SECOND = { ...DUAL_STACK, name: 'second', bridge: 'br-second', ipam: { subnet: '10.51.0.0/24' } }
const runtimeConfig = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] }

/** What an administrator's files say: the opposite, by name and by pattern, and in the file that Debian gives everybody. */
const CONTRARY = `net.ipv4.ip_forward = 0
net.ipv6.conf.all.forwarding = 0
net/ipv4/conf/br.net.1/rp_filter = 0
net/ipv4/conf/br.net.1/route_localnet = 0
net/ipv6/conf/br.net.1/accept_ra = 1
net/ipv6/conf/br-second/disable_ipv6 = 0
net.ipv6.conf.default.accept_ra = 0
`

const KEPT = [
  'ipv4/ip_forward',
  'ipv6/conf/all/forwarding',
  ...['rp_filter', 'route_localnet'].map((name) => `ipv4/conf/br.net.1/${name}`),
  ...['accept_ra', 'accept_dad', 'disable_ipv6'].map((name) => `ipv6/conf/br.net.1/${name}`),
  'ipv4/conf/br-second/rp_filter',
  'ipv6/conf/br-second/disable_ipv6',
]

/** Hides the real machine's files from the host, which has only a mount namespace of its own. */
function hideSysctlFiles(host: Host): void {
  host.sh(`
    mkdir -p /run/empty /etc/sysctl.d
    for folder in /etc/sysctl.d /usr/lib/sysctl.d /usr/local/lib/sysctl.d /lib/sysctl.d; do
      if [ -d $folder ]; then mount -t tmpfs tmpfs $folder; fi
    done
    : > /run/empty/sysctl.conf
    if [ -e /etc/sysctl.conf ]; then mount --bind /run/empty/sysctl.conf /etc/sysctl.conf; fi`)
}

const values = (host: Host) => Object.fromEntries(KEPT.map((key) => [key, host.exec(['cat', `/proc/sys/net/${key}`]).trim()]))
const fileOf = (host: Host) => sysctlFiles(host)['99-tsnet.conf'] ?? ''

for (const [program, argv] of Object.entries(PROGRAMS)) {
  hostTest(`a reload of all files does not turn back what networks rely upon (${program})`, (host) => {
    hideSysctlFiles(host)
    host.exec(['sh', '-c', 'cat > /etc/sysctl.d/60-contrary.conf; cp /etc/sysctl.d/60-contrary.conf /etc/sysctl.d/99-sysctl.conf'], {
      input: CONTRARY,
    })
    host.mustCni('ADD', { netns: host.container('c1'), conf: DOTTED, runtimeConfig })
    host.mustCni('ADD', { id: 'c2', netns: host.container('c2'), conf: SECOND })
    const before = values(host)
    host.exec(argv)
    assert.deepEqual(values(host), before)
    for (const [id, conf] of [['c1', DOTTED] as const, ['c2', SECOND] as const]) {
      host.mustCni('CHECK', { id, netns: `/run/netns/${id}`, conf, prevResult: {} })
    }
    // The proof that the reload turns them back without the file.
    host.exec(['mv', FILE, '/run/kept.conf'])
    host.exec(argv)
    assert.equal(values(host)['ipv4/ip_forward'], '0')
    assert.equal(values(host)['ipv4/conf/br.net.1/rp_filter'], '0')
    assert.match(host.exec([TSNET, 'repair', '--dry-run']), new RegExp(`kernel parameters in "${FILE}"`))
    host.exec([TSNET, 'repair'])
    assert.deepEqual(values(host), before)
    assert.equal(fileOf(host), host.exec(['cat', '/run/kept.conf']))
    for (const [id, conf] of [['c1', DOTTED] as const, ['c2', SECOND] as const]) host.mustCni('DEL', { id, conf })
    assertNothingLeft(host)
  })
}

hostTest('the file names what living networks rely upon, and goes with the last of them', (host) => {
  const [c1, c2] = [host.container('c1'), host.container('c2')]
  host.mustCni('ADD', { netns: c1, conf: DOTTED, runtimeConfig })
  assert.equal(statSync(host.machine.path(FILE)).mode & 0o777, 0o644)
  assert.deepEqual(
    fileOf(host)
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .sort(),
    [
      '-net/ipv4/conf/br.net.1/route_localnet = 1',
      '-net/ipv4/conf/br.net.1/rp_filter = 1',
      '-net/ipv4/ip_forward = 1',
      '-net/ipv6/conf/all/forwarding = 1',
      '-net/ipv6/conf/br.net.1/accept_dad = 0',
      '-net/ipv6/conf/br.net.1/accept_ra = 0',
      '-net/ipv6/conf/br.net.1/disable_ipv6 = 0',
    ],
  )
  const alone = fileOf(host)
  host.mustCni('ADD', { id: 'c2', netns: c2, conf: SECOND })
  assert.match(fileOf(host), /br-second/)
  c2.sh('ip link add eth1 type veth peer name p1')
  assertRefused(host, 'ADD', { id: 'c3', ifname: 'eth1', netns: c2, conf: { ...SECOND, name: 'third', bridge: 'br3', ipam: {} } }, 101)
  host.mustCni('DEL', { id: 'c2', conf: SECOND })
  assert.equal(fileOf(host), alone)
  host.exec([TSNET, 'port', 'rm', 'c1', '-p', '8080:80'])
  assert.doesNotMatch(fileOf(host), /route_localnet/)
  host.exec([TSNET, 'port', 'add', 'c1', '-p', '8081:80'])
  assert.equal(fileOf(host), alone)
  host.mustCni('ADD', { ifname: 'eth1', netns: c1, conf: SECOND })
  assert.match(fileOf(host), /br-second\/rp_filter = 2/)
  assert.match(fileOf(host), /br\.net\.1\/rp_filter = 2/)
  host.mustCni('DEL', { ifname: 'eth1', conf: SECOND })
  host.mustCni('DEL', { conf: DOTTED })
  assertNothingLeft(host)
})

hostTest('a folder that cannot be written is a warning, no failure', (host) => {
  host.sh(`mkdir ${SYSCTL_FOLDER}; mount -t tmpfs -o ro tmpfs ${SYSCTL_FOLDER}`)
  const { status, stderr } = host.cni('ADD', { netns: host.container('c1') })
  assert.equal(status, 0)
  assert.match(stderr, /^tsnet: Cannot keep kernel parameters through a reload: [^\n]*EROFS[^\n]*\n$/)
  assert.equal(host.cni('DEL', {}).status, 0)
  assertNothingLeft(host)
})

hostTest('without being told where, the file is written in the network namespace of process 1 only', (host) => {
  const withoutFolder = { env: { TSNET_SYSCTL_DIR: '' } }
  host.mustCni('ADD', { netns: host.container('c1'), ...withoutFolder })
  assert.deepEqual(sysctlFiles(host), {})
  host.mustCni('DEL', withoutFolder)
  // A machine with process 1 of its own, as a virtual one or a system container is.
  const script = [
    'unset TSNET_SYSCTL_DIR; ip netns add c2',
    `${TSNET} attach c2 >/dev/null; cat ${FILE}; ip netns add c3`,
    // From another namespace of the same machine nothing is written.
    `rm ${FILE}; nsenter --net=/run/netns/c3 env TSNET_STATE_DIR=/run/other ${TSNET} attach c2 --ifname eth1 --id other >/dev/null; ls ${SYSCTL_FOLDER}`,
    `nsenter --net=/run/netns/c3 env TSNET_STATE_DIR=/run/other ${TSNET} detach other >/dev/null; ${TSNET} detach c2 >/dev/null; ls ${SYSCTL_FOLDER}`,
  ].join('\n')
  const written = host.exec(['unshare', '-p', '-m', '--fork', '--mount-proc', 'sh', '-ec', script])
  assert.match(written, /^# Written by tsnet[^\n]*\n#[^\n]*\n(-net\/\S+ = \d\n)+$/)
  assertNothingLeft(host)
})

hostTest('a folder that is no absolute path is refused with code 4', (host) => {
  assertRefused(host, 'ADD', { netns: host.container('c1'), env: { TSNET_SYSCTL_DIR: 'run/sysctl.d' } }, 4)
})
