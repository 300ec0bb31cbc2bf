/** A D-Bus of the test's own, and firewalld on it. */
import type { ChildProcess } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import type { TestContext } from 'node:test'
import type { Host } from './host.ts'
import { eventually } from './machine.ts'

export const SOCKET = '/run/dbus/system_bus_socket'
const BUS_CONFIG = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=${SOCKET}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`

export async function startBus(host: Host, t: TestContext): Promise<ChildProcess> {
  host.sh(`mkdir -p /run/dbus; rm -f ${SOCKET}`)
  writeFileSync(host.machine.path('/run/bus.conf'), BUS_CONFIG)
  const bus = host.start(['dbus-daemon', '--nofork', '--nopidfile', '--config-file=/run/bus.conf'])
  t.after(() => bus.kill('SIGKILL'))
  await eventually(
    'the bus answers',
    () => host.run(['dbus-send', '--system', '--dest=org.freedesktop.DBus', '/', 'org.freedesktop.DBus.ListNames']).status === 0,
  )
  return bus
}

export async function startFirewalld(host: Host, t: TestContext): Promise<void> {
  await startBus(host, t)
  const firewalld = host.start(['/usr/bin/python3', '/usr/sbin/firewalld', '--nofork', '--nopid'])
  t.after(() => firewalld.kill('SIGKILL'))
  await eventually('firewalld runs', () => host.run(['firewall-cmd', '--state']).status === 0)
}
