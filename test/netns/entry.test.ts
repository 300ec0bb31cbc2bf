import assert from 'node:assert/strict'
import { DUAL_STACK, hostTest, LOOPBACK, TSNET } from './host.ts'
import { assertNothingLeft } from './state.ts'

hostTest('the programs work copied, linked and bind-mounted into another folder', (host) => {
  const netns = host.container('c1')
  host.sh(`
    mkdir -p /run/copied /run/linked /run/mounted
    cp ${TSNET} ${LOOPBACK} /run/copied
    ln -s ${TSNET} ${LOOPBACK} /run/linked
    mount --bind ${TSNET.replace('/tsnet', '')} /run/mounted`)
  for (const folder of ['/run/copied', '/run/linked', '/run/mounted']) {
    const program = `${folder}/tsnet`
    assert.equal(host.mustCni('ADD', { netns, program }).ips?.length, 2)
    host.mustCni('DEL', { netns, program })
    host.mustCni('ADD', { netns, ifname: 'lo', program: `${folder}/loopback`, conf: { cniVersion: '0.3.1', name: 'cni-loopback', type: 'loopback' } })
  }
  assertNothingLeft(host)
})

hostTest('VERSION answers without reading standard input, even from a pipe that never ends', async (host) => {
  const { argv, env } = host.prepare('VERSION', { env: { CNI_CONTAINERID: '', CNI_NETNS: 'dummy', CNI_IFNAME: 'dummy' } })
  const child = host.start(argv, env)
  let text = ''
  child.stdout?.on('data', (data) => {
    text += data
  })
  const status = await new Promise((resolve) => child.once('close', resolve))
  child.stdin?.destroy()
  assert.equal(status, 0)
  const document = JSON.parse(text) as { supportedVersions: string[] }
  assert.deepEqual(document.supportedVersions, ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'])
})

hostTest('a plugin that is called without CNI_COMMAND says what it is on standard error', (host) => {
  const { status, stdout, stderr } = host.run([LOOPBACK])
  assert.equal(status, 0)
  assert.equal(stdout, '')
  assert.match(stderr, /CNI plugin "loopback"[\s\S]*1\.1\.0/)
})

hostTest("the runtime's NODE_OPTIONS and the like do not reach the plugin", (host) => {
  const netns = host.container('c1')
  const env = { NODE_OPTIONS: '--require /none.cjs --no-such-option', NODE_EXTRA_CA_CERTS: '/none.pem', NODE_PATH: '/none' }
  const { status, stderr } = host.cni('ADD', { netns, env })
  assert.equal(status, 0, stderr)
  assert.equal(stderr, '')
})

hostTest('a configuration that arrives slowly and in pieces is read to its end', async (host) => {
  const netns = host.container('c1')
  const { argv, env, input } = host.prepare('ADD', { netns, conf: { ...DUAL_STACK, filler: 'x'.repeat(500_000) } })
  const child = host.start(argv, env)
  for (let i = 0; i < input.length; i += 100_000) await new Promise((resolve) => child.stdin?.write(input.slice(i, i + 100_000), resolve))
  child.stdin?.end()
  assert.equal(await new Promise((resolve) => child.once('close', resolve)), 0)
})

hostTest('loopback: ADD sets lo up, CHECK sees it, DEL leaves it, and it keeps a prevResult', (host) => {
  const netns = host.container('c1')
  const call = { netns, ifname: 'lo', program: LOOPBACK, conf: { cniVersion: '1.0.0', name: 'cni-loopback', type: 'loopback' } }
  assert.equal(host.cni('CHECK', call).json.code, 104)
  const result = host.mustCni('ADD', call)
  assert.deepEqual(
    result.ips?.map(({ address }) => address),
    ['127.0.0.1/8', '::1/128'],
  )
  host.mustCni('CHECK', call)
  assert.match(netns.exec(['ip', 'addr', 'show', 'lo']), /LOOPBACK,UP[\s\S]*127\.0\.0\.1\/8/)
  const prevResult = { cniVersion: '1.0.0', ips: [{ address: '10.1.2.3/24' }] }
  assert.equal(host.mustCni('ADD', { ...call, prevResult }).ips?.[0]?.address, '10.1.2.3/24')
  for (const path of [netns, '', '/run/netns/none']) host.mustCni('DEL', { ...call, netns: path })
  assert.match(netns.exec(['ip', 'link', 'show', 'lo']), /UP/)
  assert.equal(host.cni('ADD', { ...call, netns: '/run/netns/none' }).json.code, 8)
  assertNothingLeft(host)
})

hostTest('a program without its bundles says so in the words of the protocol, or in one line', (host) => {
  const dist = TSNET.replace(/\/bin\/tsnet$/, '')
  host.sh(`mkdir -p /run/copied && cp ${TSNET} /run/copied && mount -t tmpfs tmpfs ${dist}`)
  const program = '/run/copied/tsnet'
  const { status, json, stderr } = host.cni('ADD', { netns: host.container('c1'), program })
  assert.deepEqual([status, json.code, json.msg, stderr], [1, 999, 'Cannot run cni.cjs: No such file or directory', ''])
  const command = host.run([program, 'ls'])
  assert.equal(command.status, 1)
  assert.match(command.stderr, /^tsnet: Cannot run cli\.cjs: No such file or directory\. Hint: [^\n]*\n$/)
})
