/** What `tsnet repair --watch` hears from firewalld, over a D-Bus of the test's own. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { SOCKET, startBus, startFirewalld } from './firewalld-daemon.ts'
import { ADDRESSES, DUAL_STACK, type Host, hostTest, TSNET } from './host.ts'
import { eventually } from './machine.ts'
import { prepare } from './neighbours.ts'
import { assertNothingLeft } from './state.ts'
import { startWatcher } from './watcher.ts'

const FIREWALLD = 'org.fedoraproject.FirewallD1'

/** Something that vanishes without an event of the kernel's: only a signal makes the watch look. */
const UNHEARD = 'echo 0 >/proc/sys/net/ipv4/conf/br-net/route_localnet'

/** Owns firewalld's name on the bus, and sends its signal. The messages are written out here, byte by byte. */
class Impostor {
  readonly #socket: Socket
  #heard = ''

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (data) => {
      this.#heard += data.toString('latin1')
    })
  }

  static async start(host: Host): Promise<Impostor> {
    const impostor = new Impostor(connect(host.machine.path(SOCKET)))
    impostor.#socket.write(`\0AUTH EXTERNAL 30\r\n`)
    await eventually('the bus lets in', () => impostor.#heard.startsWith('OK '))
    impostor.#socket.write('BEGIN\r\n')
    const bus = [field(1, 'o', '/org/freedesktop/DBus'), field(2, 's', 'org.freedesktop.DBus'), field(6, 's', 'org.freedesktop.DBus')]
    impostor.#socket.write(message(1, 1, [...bus, field(3, 's', 'Hello')]))
    const name = Buffer.concat([u32(FIREWALLD.length), Buffer.from(`${FIREWALLD}\0`)])
    const body = Buffer.concat([padded(name, 4), u32(0)])
    impostor.#socket.write(message(1, 2, [...bus, field(3, 's', 'RequestName'), field(8, 'g', 'su')], body))
    await eventually('the name is owned', () => impostor.#heard.includes('NameAcquired\0') && impostor.#heard.includes(`${FIREWALLD}\0`))
    return impostor
  }

  reload(): void {
    this.#socket.write(message(4, 3, [field(1, 'o', '/org/fedoraproject/FirewallD1'), field(2, 's', FIREWALLD), field(3, 's', 'Reloaded')]))
  }

  end(): void {
    this.#socket.destroy()
  }
}

function message(type: number, serial: number, fields: readonly Buffer[], body: Buffer = Buffer.alloc(0)): Buffer {
  const all = Buffer.concat(fields.map((one, i) => (i === fields.length - 1 ? one : padded(one, 8))))
  return Buffer.concat([padded(Buffer.concat([Buffer.from([0x6c, type, 0, 1]), u32(body.length), u32(serial), u32(all.length), all]), 8), body])
}

function field(code: number, signature: string, value: string): Buffer {
  const length = signature === 'g' ? Buffer.from([value.length]) : u32(value.length)
  return Buffer.concat([Buffer.from([code, 1, signature.charCodeAt(0), 0]), length, Buffer.from(`${value}\0`)])
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function padded(bytes: Buffer, boundary: number): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & (boundary - 1))])
}

hostTest('repair --watch looks when firewalld comes, reloads or goes, and not when somebody else says so', async (host, t) => {
  await prepare(host)
  await startBus(host, t)
  const watcher = await startWatcher(host)
  const comes = await watcher.after(
    'firewalld comes',
    () =>
      void host.sh(
        `${UNHEARD}; dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.RequestName string:${FIREWALLD} uint32:0`,
      ),
    /route_localnet/,
  )
  assert.match(comes[0]?.causes.join() ?? '', /firewalld started or stopped|the bus answered/)
  await new Promise((resolve) => setTimeout(resolve, 500))
  host.sh(`${UNHEARD}; dbus-send --system --type=signal /org/fedoraproject/FirewallD1 ${FIREWALLD}.Reloaded`)
  const before = watcher.reports.length
  await new Promise((resolve) => setTimeout(resolve, 1000))
  assert.equal(watcher.reports.length, before, 'a signal of another sender was believed')
  const impostor = await Impostor.start(host)
  await eventually('that it came is heard', () => watcher.reports.length > before)
  await new Promise((resolve) => setTimeout(resolve, 500))
  const reloads = await watcher.after(
    'firewalld reloads',
    () => {
      host.sh(UNHEARD)
      impostor.reload()
    },
    /route_localnet/,
  )
  assert.deepEqual(reloads[0]?.causes, ['firewalld reloaded'])
  impostor.end()
  await watcher.end()
})

hostTest('repair --watch needs no bus, and finds one that comes later or comes again', async (host, t) => {
  await prepare(host)
  const watcher = await startWatcher(host)
  for (const round of [1, 2]) {
    const bus = await startBus(host, t)
    const appear = () =>
      void host.run([
        'sh',
        '-c',
        `dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.RequestName string:${FIREWALLD} uint32:0`,
      ])
    host.sh(UNHEARD)
    const before = watcher.reports.length
    await eventually(`the bus is found, round ${round}`, () => {
      appear()
      return watcher.reports.length > before
    })
    assert.match(watcher.reports.at(-1)?.causes.join() ?? '', /the bus answered|firewalld started or stopped/)
    bus.kill('SIGKILL')
  }
  await watcher.end()
})

hostTest('published ports answer again after firewall-cmd --reload and --complete-reload', async (host, t) => {
  if (!existsSync('/usr/sbin/firewalld')) return t.skip('firewalld is not installed')
  await startFirewalld(host, t)
  await prepare(host)
  const watcher = await startWatcher(host)
  for (const option of ['--reload', '--complete-reload']) {
    const reports = await watcher.after(`firewall-cmd ${option}`, () => void host.exec(['firewall-cmd', option]), /TSNET-DNAT/)
    assert.ok(reports.length > 0)
    await eventually('all is there again', () => !host.exec([TSNET, 'repair', '--dry-run']).includes('missing'))
    assert.equal((await host.outside.talker.ask({ protocol: 'tcp', address: ADDRESSES[4].host, port: 8080 })).name, 'c1')
  }
  await watcher.end()
})

for (const backend of ['iptables', 'nftables']) {
  hostTest(`a container reaches out where firewalld runs, whatever zone the uplink is in (${backend})`, async (host, t) => {
    if (!existsSync('/usr/sbin/firewalld')) return t.skip('firewalld is not installed')
    await startFirewalld(host, t)
    const conf = { ...DUAL_STACK, backend }
    for (const family of [4, 6] as const) await host.outside.talker.serve({ protocol: 'tcp', address: ADDRESSES[family].far, port: 9000 }, 'far')
    for (const zone of ['public', 'external', 'work']) {
      host.exec(['firewall-cmd', `--zone=${zone}`, '--change-interface=uplink'])
      const container = host.container(zone)
      const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }]
      host.mustCni('ADD', { id: zone, netns: container, conf, runtimeConfig: { portMappings } })
      for (const family of [4, 6] as const) {
        await container.talker.serve({ protocol: 'tcp', address: family === 4 ? '0.0.0.0' : '::', port: 80 }, zone)
        assert.equal((await container.talker.ask({ protocol: 'tcp', address: ADDRESSES[family].far, port: 9000 })).name, 'far', `out of ${zone}`)
        assert.equal((await host.outside.talker.ask({ protocol: 'tcp', address: ADDRESSES[family].host, port: 8080 })).name, zone)
      }
      host.mustCni('DEL', { id: zone, conf })
      assert.doesNotMatch(host.exec(['firewall-cmd', '--list-all-zones']), /br-net/)
    }
    assertNothingLeft(host)
  })
}

hostTest('firewalld started after the containers, and an administrator who chose a zone', async (host, t) => {
  if (!existsSync('/usr/sbin/firewalld')) return t.skip('firewalld is not installed')
  const container = host.container('web')
  host.mustCni('ADD', { id: 'web', netns: container })
  await host.outside.talker.serve({ protocol: 'tcp', address: ADDRESSES[4].far, port: 9000 }, 'far')
  const asks = () => container.talker.ask({ protocol: 'tcp', address: ADDRESSES[4].far, port: 9000, timeoutMs: 1000 })
  await startFirewalld(host, t)
  await assert.rejects(asks())
  assert.match(host.exec([TSNET, 'repair']), /firewalld's zone "trusted"/)
  assert.equal((await asks()).name, 'far')
  assert.doesNotMatch(host.exec([TSNET, 'repair']), /zone/)
  host.mustCni('DEL', { id: 'web' })
  host.exec(['firewall-cmd', '--zone=work', '--add-interface=br-net'])
  host.mustCni('ADD', { id: 'web', netns: container })
  host.mustCni('DEL', { id: 'web' })
  assert.match(host.exec(['firewall-cmd', '--get-zone-of-interface=br-net']), /^work$/m)
})
