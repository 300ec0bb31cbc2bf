/** What a process lacks that the kernel refused something: an errno alone does not say how to get it. */
import { ErrorList, isErrno, TsnetError } from '../error.ts'
import { missingCapabilities } from '../sys/capability.ts'

const MAX_CAUSES = 16

/** @returns The error; where the kernel refused for want of a capability, one that names it. */
export function explainPermission(error: unknown): unknown {
  if (!causesOf(error).some(isRefusal)) return error
  const missing = missingCapabilities(['CAP_NET_ADMIN', 'CAP_SYS_ADMIN'])
  if (missing.length === 0) return error
  return new TsnetError('TSNET_PERMISSION', `The process lacks ${missing.join(' and ')}`, {
    hint: `Run the runtime as root; in a systemd unit AmbientCapabilities= gives what CapabilityBoundingSet= does not take away, in a container --cap-add; without root it works in a user namespace that owns the network namespace: unshare -Ur --net`,
    cause: error,
  })
}

/** The programs of iptables tell no errno. */
function isRefusal(cause: unknown): boolean {
  return isErrno(cause, 'EPERM', 'EACCES') || (cause instanceof TsnetError && cause.code === 'TSNET_IPTABLES')
}

function causesOf(error: unknown): readonly unknown[] {
  const found: unknown[] = []
  const queue: unknown[] = [error]
  for (let at = queue.shift(); at !== undefined && found.length < MAX_CAUSES; at = queue.shift()) {
    found.push(at)
    if (at instanceof ErrorList) queue.push(...at.errors)
    else if (at instanceof Error) queue.push(at.cause)
  }
  return found
}
