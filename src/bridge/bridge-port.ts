/** A port of a bridge: the host end of a container's veth pair. */
import { changeLink, findLink, type LinkId } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { now, sleep } from '../sys/time.ts'
import { BR_STATE_DISABLED, BR_STATE_FORWARDING, type BridgePort } from '../wire/link.ts'

const FORWARDING_LIMIT_MS = 1000
const CARRIER_LIMIT_MS = 3000
const POLL_MS = 0.2

/** Makes a link a port of the bridge with this index; it leaves the one that it was in. Its port options start anew. */
export function joinBridge(rt: NetlinkSocket, name: string, bridgeIndex: number): void {
  changeLink(rt, `make "${name}" a port of the bridge`, { id: name, link: { master: bridgeIndex } })
}

/**
 * @param port `hairpin` 1 lets a frame leave by the port it came in by: the container reaches its own published port. Between two
 * ports with `isolated` 1 no frame passes.
 */
export function setBridgePort(rt: NetlinkSocket, name: string, port: BridgePort): void {
  changeLink(rt, `set the bridge port "${name}"`, { id: name, link: { linkinfo: { slaveKind: 'bridge', bridgePort: port } } })
}

/** @returns The port's options, or undefined when the link is no port of a bridge. */
export function findBridgePort(rt: NetlinkSocket, id: LinkId): BridgePort | undefined {
  return findLink(rt, id)?.linkinfo?.bridgePort
}

/**
 * Waits until the bridge has noticed the carrier of the port. Where spanning tree is on, it forwards frames only later.
 * @returns false when it did not happen within three seconds
 */
export function waitForCarrier(rt: NetlinkSocket, id: LinkId): boolean {
  const deadline = now() + CARRIER_LIMIT_MS
  while ((findBridgePort(rt, id)?.state ?? BR_STATE_DISABLED) === BR_STATE_DISABLED) {
    if (now() > deadline) return false
    sleep(POLL_MS)
  }
  return true
}

/**
 * Waits until the bridge forwards frames of the port. The kernel sees the carrier a moment after both ends are up, by a
 * work queue; a frame sent before is dropped, and its sender tries again only after a second.
 * @returns false when it did not happen within a second
 */
export function waitForForwarding(rt: NetlinkSocket, id: LinkId): boolean {
  const deadline = now() + FORWARDING_LIMIT_MS
  while (findBridgePort(rt, id)?.state !== BR_STATE_FORWARDING) {
    if (now() > deadline) return false
    sleep(POLL_MS)
  }
  return true
}
