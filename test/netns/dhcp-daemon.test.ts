import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { answered, startAgent } from './agent-process.ts'
import { DHCP, DHCP_NETWORK, givenByUdhcpd, macvlanContainer, Spoken, startDaemon, startUdhcpd } from './dhcp-server.ts'
import { type Host, hostTest } from './host.ts'
import { eventually } from './machine.ts'
import { stateFiles } from './state.ts'

const VALID = { 'cni.dev/valid-attachments': [] }
const WITHOUT_DAEMON = /Cannot ask the DHCP daemon at "\/run\/cni\/dhcp\.sock"/

/** As systemd does it: a socket as descriptor 3, at the first connection, and what is reported goes to a socket too. */
const ACTIVATE = `
import os, select, socket, sys
os.makedirs('/run/cni', 0o700)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind('/run/notify')
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind('/run/cni/dhcp.sock')
listener.listen(64)
print('listening', flush=True)
select.select([listener], [], [])
child = os.fork()
if child == 0:
    os.dup2(listener.fileno(), 3)
    os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), NOTIFY_SOCKET='/run/notify')
    os.execv(sys.argv[1], sys.argv[1:])
print(notify.recv(100).decode(), flush=True)
os.waitpid(child, 0)
`

hostTest('dhcp: without a server ADD fails in time, and without a daemon DEL succeeds and all else says so', async (host) => {
  const { call } = macvlanContainer(host, 'c1')
  for (const command of ['ADD', 'STATUS', 'CHECK', 'GC']) {
    const { json } = host.cni(command, { ...call, conf: { ...DHCP_NETWORK, ...VALID } })
    assert.equal(json.code, 50, command)
    assert.match(json.msg ?? '', WITHOUT_DAEMON)
  }
  const down = host.cni('DEL', call)
  assert.equal(down.status, 0)
  assert.match(down.stderr, WITHOUT_DAEMON)
  const daemon = await startDaemon(host, '-timeout', '100ms', '-resendtimeout', '400ms')
  const since = Date.now()
  const { json } = host.cni('ADD', call)
  assert.ok(Date.now() - since < 2000)
  assert.deepEqual([json.code, json.msg], [11, 'Cannot get a lease for "lan/c1:eth0": no server has answered'])
  assert.equal(host.cni('ADD', { ...call, netns: '/run/netns/none' }).json.code, 8)
  assert.match(host.cni('ADD', { ...call, ifname: 'eth7' }).json.msg ?? '', /its interface is not there/)
  assert.match(host.cni('ADD', { ...call, ifname: 'lo' }).json.msg ?? '', /no server has answered|no Ethernet interface/)
  assert.deepEqual(stateFiles(host), [])
  const second = host.run([call.program ?? '', 'daemon'])
  assert.equal(second.status, 1)
  assert.match(second.stderr, /a DHCP daemon runs already/)
  assert.equal(await daemon.stop('SIGINT'), 0)
})

hostTest('dhcp: a caller that is killed leaves no lease behind', async (host) => {
  const daemon = await startDaemon(host, '-resendtimeout', '30s')
  const { call } = macvlanContainer(host, 'c1')
  const { argv, env, input } = host.prepare('ADD', call)
  const child = host.start(argv, env)
  child.stdin?.end(input)
  await eventually('the daemon asks', () => /UP/.test(host.exec(['ip', '-n', 'c1', 'link', 'show', 'eth0'])))
  child.kill('SIGKILL')
  await daemon.says(/nobody waits for a lease any more lease=lan\/c1:eth0/)
  await startUdhcpd(host, 600)
  assert.equal(host.mustCni('ADD', call).ips?.length, 1)
})

hostTest('dhcp: a lease that cannot be written down is given back, and ADD says why', async (host) => {
  const server = await startUdhcpd(host, 600)
  await startDaemon(host)
  const { call } = macvlanContainer(host, 'c1')
  host.sh('mkdir -m 700 -p /run/tsnet && mount -t tmpfs -o ro tmpfs /run/tsnet')
  const { json } = host.cni('ADD', call)
  assert.deepEqual([json.code, json.msg?.split(':').slice(0, 2).join(':')], [5, 'Cannot write down the lease of "lan/c1:eth0"'])
  await eventually('the server has the address back', () => [...givenByUdhcpd(host, server).values()].every((seconds) => seconds === 0))
  host.sh('umount /run/tsnet')
  assert.equal(host.mustCni('ADD', call).ips?.length, 1)
})

hostTest('dhcp: what has vanished takes its lease along', async (host) => {
  await startUdhcpd(host, 2)
  const daemon = await startDaemon(host)
  for (const name of ['c1', 'c2', 'c3']) host.mustCni('ADD', macvlanContainer(host, name).call)
  for (const name of ['c1', 'c3']) host.exec(['ip', 'netns', 'del', name])
  const gone = host.cni('DEL', { id: 'c1', netns: '', program: DHCP, conf: DHCP_NETWORK })
  assert.deepEqual([gone.status, gone.stdout], [0, ''])
  host.exec(['ip', '-n', 'c2', 'link', 'del', 'eth0'])
  await daemon.says(/gave up a lease lease=lan\/c[23]:eth0 .*reason="its interface is not there"/, 2)
  await eventually('nothing is left', () => host.exec(['find', '/run/tsnet/dhcp', '-mindepth', '1']) === '')
})

hostTest('dhcp: a service manager holds the socket, and starts the daemon at the first call', async (host) => {
  await startUdhcpd(host, 600)
  const manager = await Spoken.start(host, ['python3', '-c', ACTIVATE, DHCP, 'daemon', '-pidfile', '/run/dhcp.pid'], /listening/)
  assert.equal(host.mustCni('ADD', macvlanContainer(host, 'c1').call).ips?.length, 1)
  await manager.says(/READY=1/)
  host.sh('kill "$(cat /run/dhcp.pid)"')
  await manager.says(/: ended /)
  assert.equal(host.run(['test', '-S', '/run/cni/dhcp.sock']).status, 0, "the socket is the service manager's")
})

hostTest('dhcp: the agent leaves what may take minutes to one shot', async (host) => {
  await startAgent(host)
  await startUdhcpd(host, 600)
  await startDaemon(host)
  const { call } = macvlanContainer(host, 'c1')
  const prevResult = host.mustCni('ADD', call)
  host.mustCni('CHECK', { ...call, prevResult })
  host.mustCni('DEL', call)
  assert.equal(answered(host), 0)
})

/** @returns All that the daemon says to this, until it closes the connection. */
async function heard(host: Host, text: string | undefined): Promise<string> {
  const socket = connect(host.machine.path('/run/cni/dhcp.sock'))
  let answer = ''
  socket.on('error', () => {})
  socket.on('data', (data) => {
    answer += data
  })
  if (text !== undefined) socket.write(text)
  await new Promise((resolve) => socket.once('close', resolve))
  return answer
}

hostTest('dhcp: peers that are strangers, silent or rude are sent away, and the daemon goes on', async (host) => {
  const daemon = await startDaemon(host)
  const silent = heard(host, undefined)
  for (const [text, answer] of [
    ['hello\n', /TSNET_CONFIG/],
    ['null\n', /TSNET_PROTOCOL/],
    ['{"command":"shutdown"}\n', /its command is unknown/],
    ['{"command":"acquire","network":"../x"}\n', /invalid characters found in network name/],
    [`{"command":"${'x'.repeat(1 << 20)}"}\n`, /TSNET_PROTOCOL/],
    [
      `{"command":"acquire","network":"n","containerID":"c","ifname":"e","netns":{"path":"/proc/1/ns/net","inode":1},"clientID":"00"}\n`,
      /TSNET_NETNS/,
    ],
    ['{"command":"status"}\n', /\n\{\}\n$/],
  ] as const) {
    assert.match(await heard(host, text), answer, text.slice(0, 60))
  }
  host.sh('chmod 777 /run/cni /run/cni/dhcp.sock')
  const stranger = host.run(['setpriv', '--reuid', '65534', '--clear-groups', 'socat', '-u', 'UNIX-CONNECT:/run/cni/dhcp.sock', 'STDOUT'])
  assert.equal(stranger.stdout, '')
  await daemon.says(/refused a connection reason="user 65534 may not use it"/)
  assert.match(await silent, /^\{"tsnet":"dhcp","protocol":1,"patienceMs":\d+\}\n$/)
  await daemon.says(/its request did not arrive/)
  host.mustCni('STATUS', { program: DHCP, conf: DHCP_NETWORK })
})
