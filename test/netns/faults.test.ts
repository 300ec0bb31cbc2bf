/** Any system call of tsnet, or of a program that it runs, fails once: ADD leaves nothing, DEL does the rest and says what it could not. */
import assert from 'node:assert/strict'
import { type CniDocument, hostTest } from './host.ts'
import { failAt, type Point, pointsOf, type Refused, SOAK, spread } from './kill.ts'
import { Scene, traced } from './operation.ts'
import { rulesOf, snapshot } from './state.ts'

const ERRNOS = ['EPERM', 'ENOMEM', 'EBUSY', 'ENOSPC', 'EINTR', 'EIO'] as const
type Errno = (typeof ERRNOS)[number]

/** For each operation and surroundings: of the calls that change something, and of those that ask. A long run takes all, with each error. */
const MOST = 10
const ABORTED = 134

interface Fault {
  readonly point: Point
  readonly errno: Errno
}

/** The answer is left out: who cannot be told cannot be told. */
function faultsAt(points: readonly Point[], offset: number): readonly Fault[] {
  const own = points.filter(({ process, kind }) => kind === 'change' || (kind === 'other' && process === 0))
  const chosen = [
    ...spread(
      own.filter(({ kind }) => kind === 'change'),
      MOST,
      offset,
    ),
    ...spread(
      own.filter(({ kind }) => kind === 'other'),
      MOST,
      offset,
    ),
  ]
  return SOAK
    ? chosen.flatMap((point) => ERRNOS.map((errno) => ({ point, errno })))
    : chosen.map((point, i) => ({ point, errno: ERRNOS[(i + offset) % ERRNOS.length] as Errno }))
}

/** @returns What tsnet printed, after looking at how it did. */
function parsed({ status, stdout, stderr }: Refused): CniDocument {
  assert.doesNotMatch(`${stdout}${stderr}`, /\n\s*at |node:internal|Cannot undo/, stderr)
  if (status === 0) return stdout === '' ? {} : (JSON.parse(stdout) as CniDocument)
  assert.equal(status, 1, `${stdout}${stderr}`)
  const error = JSON.parse(stdout) as CniDocument
  assert.ok(typeof error.code === 'number' && typeof error.msg === 'string' && error.msg.length > 0, stdout)
  return error
}

/** Back from another namespace there is no way but this or the end. */
function isAborted({ status, hit }: Refused): boolean {
  return status === ABORTED && hit?.includes('setns') === true
}

function tryAdd(scene: Scene, fault: Fault): void {
  const outcome = failAt(scene.host, traced(scene, 'ADD'), fault.point, fault.errno)
  if (isAborted(outcome)) return scene.detach()
  const json = parsed(outcome)
  if (outcome.status !== 0) return
  scene.host.mustCni('CHECK', { ...scene.call, prevResult: json })
  scene.detach()
}

/** What of the container is there. */
function partsOf(scene: Scene): readonly string[] {
  const { host } = scene
  const { book } = snapshot(host) as { readonly book: { readonly leases: readonly string[] } }
  const parts = {
    link: host.exec(['ip', '-d', 'link']).includes('c1:eth0'),
    rules: rulesOf(host).includes('c1:eth0'),
    leases: book.leases.some((lease) => lease.includes('c1:eth0')),
    claims: host.run(['grep', '-rq', 'c1:eth0', '/run/tsnet/ports']).status === 0,
  }
  return Object.entries(parts).flatMap(([part, there]) => (there ? [part] : []))
}

function tryDel(scene: Scene, fault: Fault): void {
  scene.attach()
  const all = partsOf(scene)
  const outcome = failAt(scene.host, traced(scene, 'DEL'), fault.point, fault.errno)
  if (isAborted(outcome)) return scene.detach()
  parsed(outcome)
  if (outcome.status === 0) {
    // A full disk keeps claims of ports, which count for nothing without their record: the next ADD has the ports.
    if (fault.errno === 'ENOSPC' && partsOf(scene).join() === 'claims') {
      scene.attach()
      scene.detach()
    }
    return
  }
  const left = partsOf(scene)
  const standing = left.filter((part) => part === 'link' || part === 'rules')
  // Who cannot even begin leaves all. An address or port is not given away while something leads there, or may.
  const booked = left.length - standing.length
  const isRight = left.length === all.length || (standing.length <= 1 && booked === 2) || (standing.length === 0 && booked <= 1)
  assert.ok(isRight, `left are ${left.join(', ') || 'none'}: ${outcome.stdout}`)
  scene.detach()
}

for (const [command, attempt] of Object.entries({ ADD: tryAdd, DEL: tryDel })) {
  for (const standing of [false, true]) {
    hostTest(`${command} with a system call that fails once, ${standing ? 'in a network that stands' : 'in a new network'}`, (host, t) => {
      const scene = new Scene(host, { standing })
      if (command === 'DEL') scene.attach()
      const points = pointsOf(host, traced(scene, command))
      scene.detach()
      const faults = faultsAt(points, standing ? 3 : 0)
      for (const fault of faults) scene.attempt(`${command} with ${fault.errno} at ${fault.point.text}`, () => attempt(scene, fault))
      t.diagnostic(`${faults.length} faults at ${points.length} calls`)
      scene.end()
    })
  }
}
