/** The same runtimes on the links in the names of the reference plugins: bridge, portmap, firewall and tuning in one definition. */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { assert, assertIncludes, assertPublished, assertSilent, BIN, check, fetchOnce, run, tryRun } from './check.mjs'
import { CTR, runPodSandbox, stopPodSandbox } from './containerd.mjs'
import { IMAGE, SERVER } from './image.mjs'
import { withPodman } from './podman.mjs'

const NETWORK = {
  cniVersion: '0.4.0',
  name: 'links',
  plugins: [
    {
      type: 'bridge',
      bridge: 'links0',
      isGateway: true,
      ipMasq: true,
      hairpinMode: true,
      ipam: { type: 'host-local', routes: [{ dst: '0.0.0.0/0' }], ranges: [[{ subnet: '10.61.0.0/24' }]] },
    },
    { type: 'portmap', capabilities: { portMappings: true } },
    { type: 'firewall' },
    { type: 'tuning', sysctl: { 'net.ipv4.conf.IFNAME.accept_redirects': '0' } },
  ],
}
const FIRST = '/etc/cni/net.d/00-links.conflist'
const LEASES = '/var/lib/cni/networks/links'
const CNI_BIN = '/opt/cni/bin'

/** Runs `act` while the definition is the first of its folder, and no other runtime's. */
async function withNetwork(network, act) {
  writeFileSync(FIRST, JSON.stringify(network))
  await act()
  run(['rm', FIRST])
  tryRun(['ip', 'link', 'delete', 'links0'])
}

export async function linksWithPodman(image) {
  await withNetwork(NETWORK, async () => {
    const { pod, start, remove, tryPod } = withPodman(image)
    await check('links: run -p: the port answers, the container goes out, and reaches its own port', async () => {
      start('l1', '--network', 'links', '-p', '8080:80')
      await assertPublished(8080, 'l1')
      const address = pod('inspect', '--format', '{{.NetworkSettings.Networks.links.IPAddress}}', 'l1')
      assertIncludes(fetchOnce(`http://${address}`), 'l1', 'By its address')
      pod('exec', 'l1', 'ping', '-c', '1', '-W', '2', '10.99.0.2')
      assertIncludes(pod('exec', 'l1', 'wget', '-q', '-O', '-', 'http://10.99.0.1:8080/cgi-bin/who'), 'l1', 'By its own published port')
      assertIncludes(pod('exec', 'l1', '/bin/busybox', 'cat', '/proc/sys/net/ipv4/conf/eth0/accept_redirects'), '0', 'The kernel parameter')
    })
    await check('links: a second container with the same port is refused, and the first one keeps it', async () => {
      const { status, stderr } = tryPod('run', '-d', '--name', 'thief', '--network', 'links', '-p', '8080:80', IMAGE)
      assert(status !== 0, 'podman run succeeded')
      assertIncludes(stderr, '8080', 'The message')
      remove('thief')
      await assertPublished(8080, 'l1')
    })
    await check('links: rm -f leaves no link, rule and reservation', () => {
      remove('l1')
      assertNothingOfContainers()
      assertSilent('http://10.99.0.1:8080')
    })
    await check('links: a pod of two containers has one address, and answers by its port', async () => {
      pod(
        'pod',
        'create',
        '--name',
        'lp',
        '--network',
        'links',
        '-p',
        '8081:80',
        '--infra-image',
        IMAGE,
        '--infra-command',
        '/bin/busybox sleep 1000',
      )
      pod('run', '-d', '--name', 'lp1', '--pod', 'lp', IMAGE)
      await assertPublished(8081, 'lp')
      pod('pod', 'rm', '-f', '-t', '0', 'lp')
      assertNothingOfContainers()
    })
    await check('links: what `podman network create` writes runs on them', async () => {
      pod('network', 'create', '--subnet', '10.62.0.0/24', 'made')
      start('l2', '--network', 'made', '-p', '8082:80')
      await assertPublished(8082, 'l2')
      remove('l2')
      pod('network', 'rm', 'made')
      assertNothingOfContainers()
    })
  })
}

export async function linksWithContainerd(containerd) {
  const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }]
  const withPort = {
    ...NETWORK,
    plugins: NETWORK.plugins.map((plugin) => (plugin.type === 'portmap' ? { ...plugin, runtimeConfig: { portMappings } } : plugin)),
  }
  mkdirSync(CNI_BIN, { recursive: true })
  run(['mount', '--bind', BIN, CNI_BIN])
  await withNetwork(withPort, () =>
    check('links: ctr run --cni: the port answers; killed, its DEL without CNI_NETNS leaves nothing', async () => {
      const child = spawn('ctr', [...CTR.slice(1), 'run', '--rm', '--cni', '--env', 'WHO=lc', IMAGE, 'lc', ...SERVER], { stdio: 'ignore' })
      const ended = new Promise((resolve) => child.once('exit', resolve))
      await assertPublished(8080, 'lc')
      run([...CTR, 'task', 'kill', '-s', 'KILL', 'lc'])
      await ended
      assertNothingOfContainers()
    }),
  )
  run(['umount', CNI_BIN])
  await withNetwork(NETWORK, () =>
    check('links: CRI RunPodSandbox with a host port: it answers; stopped and removed, nothing is left', async () => {
      // The definition is read when its folder changes.
      const id = await runPodSandbox(containerd, 'lk', 8083)
      await assertPublished(8083, 'lk')
      assert(tryRun(['ip', 'link', 'show', 'links0']).status === 0, 'the pod has another network')
      await stopPodSandbox(containerd, id)
      assertNothingOfContainers()
    }),
  )
}

/** Bridge, base chains and the last address that was handed out stay, as with the reference plugins. */
function assertNothingOfContainers() {
  const links = JSON.parse(run(['ip', '-j', 'link'])).map(({ ifname }) => ifname)
  const rules = [['iptables-save'], ['ip6tables-save']].map((argv) => tryRun(argv).stdout).join('\n')
  const left = [
    ...links.filter((name) => name.startsWith('veth')).map((name) => `link ${name}`),
    ...rules.split('\n').filter((line) => /10\.6[12]\.0\.|CNI-DN-|CNI-[0-9a-f]{24}/.test(line)),
    ...(existsSync(LEASES) ? readdirSync(LEASES).filter((name) => /^\d/.test(name)) : []).map((name) => `reservation ${name}`),
    ...tryRun(['find', '/run/tsnet/chained', '/run/cni/tuning', '-name', '*.json']).stdout.split('\n').filter(Boolean),
  ]
  assert(left.length === 0, `left behind:\n${left.join('\n')}`)
}
